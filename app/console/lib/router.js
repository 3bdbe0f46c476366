/** The address of the page: a signal, and links that change it without a reload. */
import { html, signal } from "./html.js";

const read = () => ({ path: location.pathname, query: new URLSearchParams(location.search) });

/** The path and the query of the address. */
export const route = signal(read());

addEventListener("popstate", () => {
  route.value = read();
});

/**
 * Goes to another page.
 *
 * @param {string} address
 * @param {{ replace?: boolean }} [options]
 */
export function navigate(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  const changesPage = new URL(address, location.href).pathname !== location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  route.value = read();
  if (changesPage) scrollTo(0, 0);
}

/**
 * Changes parts of the query, and keeps the rest.
 *
 * @param {Record<string, string | number | null | undefined>} changes
 * @param {{ replace?: boolean }} [options]
 */
export function setQuery(changes, options = { replace: true }) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  navigate(location.pathname + (text && `?${text}`), options);
}

/** Whether a click should stay in this tab. @param {MouseEvent} event */
export const isPlainClick = (event) => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;

/**
 * A link to a page of the console.
 *
 * @param {{ to: string, children?: any, [name: string]: any }} props
 */
export function Link({ to, children, ...rest }) {
  const onClick = (/** @type {MouseEvent} */ event) => {
    if (!isPlainClick(event)) return;
    event.preventDefault();
    navigate(to);
  };
  return html`<a href=${to} ...${rest} onClick=${onClick}>${children}</a>`;
}
