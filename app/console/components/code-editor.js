/**
 * An editor for short code: a text area over its own colored text, with line numbers.
 *
 * The text area is the browser's, so that labels, errors, undo and assistive technology work as in any form. Tab indents
 * once something was typed; Escape, then Tab, leaves the editor.
 */
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { bracketsAt, INDENT, indentAfter, indentLines, jsonProblem, lineOfMessage, tokensOf } from "../model/code.js";

const MAX_COLORED_CHARACTERS = 30_000;

/**
 * @param {{ language: "javascript" | "json", value: string, error?: string, rows?: number | string, onInput: (event: any) => void, [name: string]: any }} props
 */
export function CodeEditor({ language, value, error, rows = 8, ...control }) {
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const [caret, setCaret] = useState(/** @type {number | null} */ (null));
  const text = String(value ?? "");
  const tokens = useMemo(() => (text.length > MAX_COLORED_CHARACTERS ? null : tokensOf(text)), [text]);
  const matched = useMemo(() => (tokens && caret !== null ? bracketsAt(tokens, caret) : []), [tokens, caret]);
  const problem = useMemo(() => (language === "json" ? jsonProblem(text) : null), [language, text]);
  const errorLine = lineOfMessage(error) ?? problem?.line ?? null;
  const lines = text.split("\n").length;

  useEffect(() => {
    const onSelection = () => setCaret(document.activeElement === area.current ? (area.current?.selectionEnd ?? null) : null);
    document.addEventListener("selectionchange", onSelection);
    area.current?.addEventListener("selectionchange", onSelection);
    return () => document.removeEventListener("selectionchange", onSelection);
  }, []);

  return html`<div class=${`editor ${error ? "invalid" : ""}`} style=${{ "--rows": String(rows) }}>
    <div class="editor-lines" aria-hidden="true">${Array.from({ length: lines }, (_, index) => html`<span key=${index} class=${index + 1 === errorLine ? "bad-line" : ""}>${index + 1}</span>`)}</div>
    <div class="editor-body">
      ${errorLine !== null && errorLine <= lines && html`<i class="editor-mark" style=${{ top: `calc(${errorLine - 1} * var(--code-line) + var(--code-pad))` }}></i>`}
      <pre class="editor-ink" aria-hidden="true">${tokens ? tokens.map((/** @type {import("../model/code.js").Token} */ token) => inked(token, matched)) : text}${"\n"}</pre>
      <textarea ref=${area} class="editor-input" spellcheck="false" autocapitalize="off" autocomplete="off" wrap="off" onKeyDown=${onKey} onBlur=${() => setCaret(null)} ...${control} value=${text}></textarea>
    </div>
    ${problem && !error && html`<div class="editor-note" role="status">Line ${problem.line}: ${problem.message}</div>`}
  </div>`;
}

/** @param {import("../model/code.js").Token} token @param {number[]} matched */
function inked(token, matched) {
  if (token.kind === "plain") return token.text;
  const pair = matched.includes(token.start) ? (matched.length === 2 ? "paired" : "unpaired") : "";
  return html`<span class=${`ink-${token.kind} ${pair}`}>${token.text}</span>`;
}

/**
 * Puts a text in place of a part, in a way that the browser can undo.
 *
 * @param {HTMLTextAreaElement} area
 * @param {number} from
 * @param {number} to
 * @param {string} text
 */
function replace(area, from, to, text) {
  area.setSelectionRange(from, to);
  const isDone = text === "" ? document.execCommand("delete") : document.execCommand("insertText", false, text);
  if (isDone) return;
  area.setRangeText(text, from, to, "end");
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const area = /** @type {HTMLTextAreaElement} */ (event.target);
  if (area.readOnly || area.disabled || event.isComposing) return;
  if (event.key === "Escape") area.dataset.leaves = "true";
  else if (event.key !== "Tab" && event.key !== "Shift") delete area.dataset.leaves;
  if (event.key.length === 1 || event.key === "Enter" || event.key === "Backspace") area.dataset.typed = "true";
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") breakLine(event, area);
  else if (event.key === "Tab" && area.dataset.typed && !area.dataset.leaves) indent(event, area);
  else if (/^[)\]}]$/.test(event.key)) closeBlock(event, area);
}

/** Begins the next line below the beginning of this one. @param {KeyboardEvent} event @param {HTMLTextAreaElement} area */
function breakLine(event, area) {
  const { value, selectionStart, selectionEnd } = area;
  const next = indentAfter(value, selectionStart);
  if (next === "" || event.shiftKey) return;
  event.preventDefault();
  replace(area, selectionStart, selectionEnd, `\n${next}`);
}

/** Indents the selected lines, or puts spaces at the caret. @param {KeyboardEvent} event @param {HTMLTextAreaElement} area */
function indent(event, area) {
  event.preventDefault();
  const { value, selectionStart, selectionEnd } = area;
  if (selectionStart === selectionEnd && !event.shiftKey) {
    replace(area, selectionStart, selectionEnd, INDENT);
    return;
  }
  const change = indentLines(value, selectionStart, selectionEnd, event.shiftKey);
  const isLine = selectionStart === selectionEnd;
  const shift = change.text.length - (change.to - change.from);
  if (change.text === value.slice(change.from, change.to)) return;
  replace(area, change.from, change.to, change.text);
  if (isLine) area.setSelectionRange(Math.max(change.from, selectionStart + shift), Math.max(change.from, selectionStart + shift));
  else area.setSelectionRange(change.from, change.from + change.text.length);
}

/** A closing bracket at the beginning of a line takes one indentation back. @param {KeyboardEvent} event @param {HTMLTextAreaElement} area */
function closeBlock(event, area) {
  const { value, selectionStart, selectionEnd } = area;
  const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
  const line = value.slice(start, selectionStart);
  if (selectionStart !== selectionEnd || line.trim() !== "" || !line.endsWith(INDENT)) return;
  event.preventDefault();
  replace(area, selectionStart - INDENT.length, selectionEnd, event.key);
}
