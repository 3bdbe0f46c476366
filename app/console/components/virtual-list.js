/** A list of any length of which only the visible rows are in the page. */
import { html, useEffect, useRef, useState } from "../lib/html.js";

const SPARE_ROWS = 12;

/**
 * @param {{ label: string, count: number, rowHeight: number, row: (index: number) => any, rowKey: (index: number) => any, reveal?: number | null, class?: string }} props
 *   `reveal` is the index of a row to scroll to when it changes.
 */
export function VirtualList({ label, count, rowHeight, row, rowKey, reveal = null, class: extra = "" }) {
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  const [view, setView] = useState({ top: 0, height: 600 });
  const measure = () => frame.current && setView({ top: frame.current.scrollTop, height: frame.current.clientHeight });
  useEffect(() => {
    measure();
    const observer = new ResizeObserver(measure);
    if (frame.current) observer.observe(frame.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    const list = frame.current;
    if (reveal === null || reveal < 0 || !list) return;
    const top = reveal * rowHeight;
    if (top < list.scrollTop || top + rowHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
  }, [reveal]);

  const first = Math.max(0, Math.floor(view.top / rowHeight) - SPARE_ROWS);
  const last = Math.min(count, Math.ceil((view.top + view.height) / rowHeight) + SPARE_ROWS);
  const rows = [];
  for (let index = first; index < last; index += 1) {
    rows.push(html`<li key=${rowKey(index)} aria-posinset=${index + 1} aria-setsize=${count} style=${{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}>${row(index)}</li>`);
  }
  return html`<div class=${`virtual ${extra}`} ref=${frame} onScroll=${measure} tabindex="0" role="group" aria-label=${`${label}, scrollable`}>
    <ul role="list" aria-label=${label} style=${{ height: `${count * rowHeight}px` }}>${rows}</ul>
  </div>`;
}
