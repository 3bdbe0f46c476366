/** What a list or a chart shows while it loads, if it is empty, and if it failed. */
import { html } from "../lib/html.js";
import { Icon } from "./icon.js";

/** @param {{ label?: string, lines?: number }} props */
export function Loading({ label = "Loading", lines = 5 }) {
  return html`<div class="skeleton" role="status" aria-busy="true" aria-label=${label}>
    ${Array.from({ length: lines }, () => html`<i></i>`)}
  </div>`;
}

/** @param {{ icon?: any, title: string, children?: any }} props */
export function Empty({ icon = "inbox", title, children }) {
  return html`<div class="empty"><${Icon} name=${icon} /><h2>${title}</h2>${children}</div>`;
}

/** @param {{ error: Error & { errors?: { path: string, message: string }[] }, onRetry?: () => void }} props */
export function Problem({ error, onRetry }) {
  return html`<div class="note bad" role="alert">
    <${Icon} name="warning" />
    <span>
      ${error.message}
      ${error.errors?.length ? html`<ul>${error.errors.map((one) => html`<li>${one.path}: ${one.message}</li>`)}</ul>` : null}
    </span>
    ${onRetry && html`<button class="button push" onClick=${onRetry}>Try again</button>`}
  </div>`;
}

/**
 * A part of a page that is loaded: one of the three states, or its content.
 *
 * @param {{ load: { data: any, error?: Error, isLoading: boolean, reload: () => void }, children: (data: any) => any, lines?: number }} props
 */
export function Loaded({ load, children, lines }) {
  if (load.data !== undefined) {
    return html`<div class="stack" aria-busy=${load.isLoading}>
      ${load.error && html`<${Problem} error=${load.error} onRetry=${load.reload} />`}
      ${children(load.data)}
    </div>`;
  }
  if (load.error) return html`<${Problem} error=${load.error} onRetry=${load.reload} />`;
  return html`<${Loading} lines=${lines} />`;
}
