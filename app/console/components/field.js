/** Form fields: a label, a control, a hint, and the API's own error beside it. */
import { html, useId } from "../lib/html.js";

/**
 * A labeled control. `kind` is `text`, `number`, `textarea`, `code`, `select`, `password` or `color`.
 *
 * @param {{ label: string, value: any, onInput?: (value: string) => void, kind?: string, error?: string, hint?: string,
 *   options?: (string | { value: string, label: string })[], wide?: boolean, class?: string, [name: string]: any }} props
 */
export function Field({ label, value, onInput, kind = "text", error, hint, options = [], wide = false, class: extra = "", ...rest }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  const control = {
    id,
    value: value ?? "",
    "aria-invalid": error ? "true" : undefined,
    "aria-describedby": described || undefined,
    onInput: (/** @type {any} */ event) => onInput?.(event.target.value),
    ...rest,
  };
  return html`<div class=${`field ${wide ? "wide" : ""} ${extra}`}>
    <label for=${id}>${label}</label>
    ${controlOf(kind, control, options)}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${error && html`<span class="problem" id=${`${id}-error`}>${error}</span>`}
  </div>`;
}

/**
 * @param {string} kind
 * @param {any} control
 * @param {(string | { value: string, label: string })[]} options
 */
function controlOf(kind, control, options) {
  if (kind === "textarea") return html`<textarea class="textarea" ...${control}></textarea>`;
  if (kind === "code") {
    return html`<textarea class="textarea code" spellcheck="false" autocapitalize="off" onKeyDown=${indent} ...${control}></textarea>`;
  }
  if (kind === "select") {
    const { value, ...others } = control;
    return html`<select class="select" value=${value} ...${others}>
      ${options.map((one) => {
        const option = typeof one === "string" ? { value: one, label: one } : one;
        return html`<option value=${option.value} selected=${option.value === value}>${option.label}</option>`;
      })}
    </select>`;
  }
  return html`<input class="input" type=${kind} ...${control} />`;
}

/**
 * Lets Tab indent code after something was typed; Escape first, then Tab, leaves the field.
 *
 * @param {KeyboardEvent} event
 */
function indent(event) {
  const area = /** @type {HTMLTextAreaElement} */ (event.target);
  if (event.key === "Escape") area.dataset.leaves = "true";
  else if (event.key !== "Tab") delete area.dataset.leaves;
  if (event.key !== "Tab" || event.shiftKey || area.dataset.leaves || area.readOnly || !area.dataset.typed) {
    if (event.key.length === 1) area.dataset.typed = "true";
    return;
  }
  event.preventDefault();
  area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

/**
 * A checkbox with its label.
 *
 * @param {{ label: string, checked: boolean, onInput?: (checked: boolean) => void, hint?: string, error?: string, [name: string]: any }} props
 */
export function Check({ label, checked, onInput, hint, error, ...rest }) {
  const id = useId();
  return html`<div class="check">
    <input type="checkbox" id=${id} checked=${checked} aria-describedby=${hint || error ? `${id}-hint` : undefined}
      onInput=${(/** @type {any} */ event) => onInput?.(event.target.checked)} ...${rest} />
    <span><label for=${id}>${label}</label>${(error || hint) && html`<span class="hint meta" id=${`${id}-hint`}>${error ?? hint}</span>`}</span>
  </div>`;
}
