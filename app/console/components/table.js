/** Tables. */
import { html } from "../lib/html.js";
import { navigate } from "../lib/router.js";
import { Empty } from "./states.js";

/**
 * A table in a frame that scrolls sideways where it must.
 *
 * `columns` have a `title`, a `cell` of a row, and a `class` (`right`, `grow`). With `to`, a click anywhere in a row
 * opens its page; the row should contain a link too, for keyboards.
 *
 * @param {{ label: string, columns: { title: any, cell: (row: any) => any, class?: string }[], rows: any[], rowKey: (row: any) => string, to?: (row: any) => string, empty?: any }} props
 */
export function Table({ label, columns, rows, rowKey, to, empty }) {
  if (rows.length === 0) return html`<div class="card flush">${empty ?? html`<${Empty} title="Nothing here yet" />`}</div>`;
  const open = (/** @type {MouseEvent} */ event, /** @type {any} */ row) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (to && !target.closest("a, button, input") && !getSelection()?.toString()) navigate(to(row));
  };
  return html`<div class="table-frame" role="group" aria-label=${`${label}, scrollable`} tabindex="0">
    <table class="table" aria-label=${label}>
      <thead>
        <tr>${columns.map((column) => html`<th scope="col" class=${column.class}>${column.title}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr key=${rowKey(row)} class=${to ? "link" : ""} onClick=${(/** @type {MouseEvent} */ event) => open(event, row)}>
            ${columns.map((column) => html`<td class=${column.class}>${column.cell(row)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
