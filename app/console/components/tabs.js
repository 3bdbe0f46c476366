/** Tabs that show one of several panels. */
import { html, useId, useRef } from "../lib/html.js";

/**
 * @param {{ label: string, tabs: { id: string, title: string }[], selected: string, onSelect: (id: string) => void, children: any }} props
 */
export function Tabs({ label, tabs, selected, onSelect, children }) {
  const base = useId();
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const place = tabs.findIndex((tab) => tab.id === selected);
    const next = tabs[(place + step + tabs.length) % tabs.length];
    onSelect(next.id);
    /** @type {HTMLElement | null | undefined} */ (list.current?.querySelector(`[data-tab="${next.id}"]`))?.focus();
  };
  return html`<div class="stack">
    <div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
      ${tabs.map(
        ({ id, title }) => html`<button type="button" role="tab" id=${`${base}-${id}`} data-tab=${id} aria-controls=${`${base}-panel`}
          aria-selected=${id === selected ? "true" : "false"} tabindex=${id === selected ? 0 : -1} onClick=${() => onSelect(id)}>${title}</button>`,
      )}
    </div>
    <div role="tabpanel" class="stack" id=${`${base}-panel`} aria-labelledby=${`${base}-${selected}`} tabindex="0">${children}</div>
  </div>`;
}
