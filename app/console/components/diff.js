/** The difference of two texts: beside each other where there is room, else below each other. */
import { html, useEffect, useMemo, useState } from "../lib/html.js";
import { changesOf, diffRows, stretchesOf } from "../model/diff.js";

/** @typedef {import("../model/diff.js").Row} Row */
/** @typedef {import("../model/diff.js").Side} Side */

const ROOM = matchMedia("(min-width: 900px)");
const MARKS = /** @type {Record<string, [string, string]>} */ ({ same: ["", ""], changed: ["−", "+"], removed: ["−", ""], added: ["", "+"] });

/**
 * @param {{ label: string, left: string, right: string, leftName: string, rightName: string }} props
 */
export function Diff({ label, left, right, leftName, rightName }) {
  const rows = useMemo(() => diffRows(left, right), [left, right]);
  const [isWide, setWide] = useState(ROOM.matches);
  const [isSplit, setSplit] = useState(true);
  useEffect(() => {
    const onChange = () => setWide(ROOM.matches);
    ROOM.addEventListener("change", onChange);
    return () => ROOM.removeEventListener("change", onChange);
  }, []);
  const { removed, added } = changesOf(rows);
  const split = isWide && isSplit;
  if (removed + added === 0) return html`<p class="note ok">The texts are equal.</p>`;
  return html`<div class="stack-2">
    <div class="card-head">
      <span class="meta number">${removed} ${removed === 1 ? "line" : "lines"} only left, ${added} only right</span>
      ${isWide && html`<div class="chips push" role="group" aria-label=${`Layout of ${label}`}>
        ${[[true, "Side by side"], [false, "Inline"]].map(([value, title]) => html`<button type="button" class="chip" aria-pressed=${isSplit === value ? "true" : "false"} onClick=${() => setSplit(/** @type {boolean} */ (value))}>${title}</button>`)}
      </div>`}
    </div>
    <div class="table-frame" role="region" aria-label=${label} tabindex="0">
      <table class=${`diff ${split ? "split-diff" : ""}`}>
        ${split && html`<colgroup><col class="number-column" /><col class="mark-column" /><col /><col class="number-column" /><col class="mark-column" /><col /></colgroup>`}
        <thead><tr>${split
          ? html`<th scope="col" colspan="3">${leftName}</th><th scope="col" colspan="3">${rightName}</th>`
          : html`<th scope="col" colspan="2">${leftName} <span aria-hidden="true">→</span><span class="hidden">and</span> ${rightName}</th><th scope="col"><span class="hidden">Text</span></th>`}</tr></thead>
        ${stretchesOf(rows).map((stretch, index) => html`<${Stretch} key=${index} stretch=${stretch} split=${split} />`)}
      </table>
    </div>
  </div>`;
}

/** @param {{ stretch: import("../model/diff.js").Stretch, split: boolean }} props */
function Stretch({ stretch, split }) {
  const [isOpen, setOpen] = useState(false);
  if ("hidden" in stretch && !isOpen) {
    const lines = stretch.hidden.length;
    return html`<tbody><tr class="gap"><td colspan=${split ? 6 : 3}><button type="button" class="button plain" onClick=${() => setOpen(true)}>Show ${lines} equal ${lines === 1 ? "line" : "lines"}</button></td></tr></tbody>`;
  }
  const rows = "hidden" in stretch ? stretch.hidden : stretch.rows;
  return html`<tbody>${split ? rows.map(splitRow) : inlineRows(rows)}</tbody>`;
}

/** @param {Row} row */
const splitRow = (row) => html`<tr>${cells(row, row.left, 0)}${cells(row, row.right, 1)}</tr>`;

/**
 * The rows of the inline layout: what is gone before what is new, for each run of changes.
 *
 * @param {Row[]} rows
 */
function inlineRows(rows) {
  const lines = [];
  /** @type {any[]} */
  let added = [];
  for (const row of rows) {
    if (row.kind === "same") {
      lines.push(...added, html`<tr>${cells(row, row.left, 0)}</tr>`);
      added = [];
      continue;
    }
    if (row.left) lines.push(html`<tr>${cells(row, row.left, 0)}</tr>`);
    if (row.right) added.push(html`<tr>${cells(row, row.right, 1)}</tr>`);
  }
  return [...lines, ...added];
}

/** @param {Row} row @param {Side | null} side @param {0 | 1} which */
function cells(row, side, which) {
  if (!side) return html`<td class="no"></td><td class="no"></td><td class="no"></td>`;
  const mark = MARKS[row.kind][which];
  const tone = mark === "" ? "" : which === 0 ? "gone" : "new";
  const said = mark === "" ? "" : which === 0 ? "removed" : "added";
  return html`<td class=${`line-number ${tone}`}>${side.number}</td><td class=${`line-mark ${tone}`}><span aria-hidden="true">${mark}</span><span class="hidden">${said}</span></td>
    <td class=${`line-text ${tone}`}>${side.parts.map((part) => (part.isChanged ? html`<mark>${part.text}</mark>` : part.text))}</td>`;
}
