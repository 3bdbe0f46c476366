/** Short messages in the corner that disappear on their own. */
import { html, signal } from "../lib/html.js";
import { Icon } from "./icon.js";

const SHOWN_MS = 5000;
let number = 0;

/** @type {import("../lib/types.js").Signal<{ id: number, text: string, tone: string }[]>} */
const toasts = signal([]);

/** @param {number} id */
const dismiss = (id) => {
  toasts.value = toasts.value.filter((one) => one.id !== id);
};

/**
 * Shows a message.
 *
 * @param {string} text
 * @param {"ok" | "bad"} [tone]
 */
export function toast(text, tone = "ok") {
  const id = ++number;
  toasts.value = [...toasts.value.slice(-3), { id, text, tone }];
  setTimeout(dismiss, tone === "bad" ? SHOWN_MS * 2 : SHOWN_MS, id);
}

/** Shows what went wrong with an action. @param {unknown} error */
export const toastError = (error) => toast(error instanceof Error ? error.message : String(error), "bad");

/** The place of the messages, once in the page. */
export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite" aria-label="Messages">
    ${toasts.value.map(
      ({ id, text, tone }) => html`<div class="toast" key=${id}>
        <span class=${`status ${tone}`}><${Icon} name=${tone === "ok" ? "check" : "warning"} />${text}</span>
        <button class="button plain push" onClick=${() => dismiss(id)}><${Icon} name="cross" label="Dismiss" /></button>
      </div>`,
    )}
  </div>`;
}
