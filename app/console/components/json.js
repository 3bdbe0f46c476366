/** JSON as text, with a button that copies it. */
import { html } from "../lib/html.js";
import { copy } from "../lib/clipboard.js";
import { json } from "../lib/format.js";
import { Icon } from "./icon.js";

/** @param {{ value: any, label: string }} props */
export function Json({ value, label }) {
  const text = json(value);
  return html`<div class="json">
    <button type="button" class="button plain json-copy" onClick=${() => copy(text, label)}><${Icon} name="copy" label=${`Copy ${label}`} /></button>
    <pre class="code-block" tabindex="0" role="region" aria-label=${label}>${text}</pre>
  </div>`;
}
