/** Steps through a list whose pages follow each other by cursors, which the address keeps. */
import { html } from "../lib/html.js";
import { navigate } from "../lib/router.js";

/** @param {{ page: any, cursors: string[] }} props */
export function Pages({ page, cursors }) {
  if (!page.nextCursor && cursors.length === 0) return null;
  const go = (/** @type {string[]} */ next) => {
    const query = new URLSearchParams(location.search);
    query.delete("cursor");
    for (const one of next) query.append("cursor", one);
    const text = query.toString();
    navigate(location.pathname + (text && `?${text}`));
  };
  return html`<div class="actions" role="group" aria-label="Pages">
    <button class="button" disabled=${cursors.length === 0} onClick=${() => go(cursors.slice(0, -1))}>Previous</button>
    <span class="meta">Page ${cursors.length + 1}</span>
    <button class="button" disabled=${!page.nextCursor} onClick=${() => go([...cursors, page.nextCursor])}>Next</button>
  </div>`;
}
