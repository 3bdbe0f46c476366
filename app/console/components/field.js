/** Form fields: a label, a control, a hint, and the API's own error beside it. */
import { html, useEffect, useId, useState } from "../lib/html.js";
import { CodeEditor } from "./code-editor.js";

/**
 * A labeled control. `kind` is `text`, `number`, `textarea`, `code` (JavaScript), `json`, `select`, `password` or `date`.
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
    ${controlOf(kind, control, options, error)}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
    ${error && html`<span class="problem" id=${`${id}-error`}>${error}</span>`}
  </div>`;
}

/**
 * @param {string} kind
 * @param {any} control
 * @param {(string | { value: string, label: string })[]} options
 * @param {string} [error]
 */
function controlOf(kind, control, options, error) {
  if (kind === "textarea") return html`<textarea class="textarea" ...${control}></textarea>`;
  if (kind === "code" || kind === "json") return html`<${CodeEditor} language=${kind === "json" ? "json" : "javascript"} error=${error} ...${control} />`;
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
 * A filter that applies once its text is complete.
 *
 * @param {{ label: string, value: string, onDone: (value: string) => void, [name: string]: any }} props
 */
export function TextFilter({ value, onDone, label, ...rest }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return html`<${Field} ...${rest} label=${label} value=${text} onInput=${setText} onChange=${() => onDone(text)} />`;
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
