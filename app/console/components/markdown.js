/** Texts of models, tools and documents as Markdown. Nothing in them can run, load or look like the console's own controls. */
import "../vendor/dompurify.js";
import { html, useLayoutEffect, useRef } from "../lib/html.js";
import { marked } from "../vendor/marked.js";

const MAX_RENDERED_CHARACTERS = 200_000;
const ALLOWED = {
  ALLOWED_TAGS: [
    ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code"],
    ...["em", "strong", "del", "a", "table", "thead", "tbody", "tr", "th", "td", "sup", "sub"],
  ],
  ALLOWED_ATTR: ["href", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: true,
};
const purify = /** @type {any} */ (globalThis).DOMPurify;

purify.addHook("afterSanitizeAttributes", (/** @type {Element} */ node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

/** @param {string} text */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

/** Markup in a text is shown as it was written; an image as its description, because it would be a request elsewhere. */
marked.use({
  renderer: {
    html: (/** @type {{ text: string }} */ token) => escaped(token.text),
    image: (/** @type {{ text: string, href: string }} */ token) => escaped(token.text || token.href),
  },
});

/**
 * The nodes of a Markdown text, sanitized once more.
 *
 * @param {string} text
 * @returns {DocumentFragment}
 */
function nodesOf(text) {
  return purify.sanitize(marked.parse(text, { gfm: true, async: false }), ALLOWED);
}

/** @param {{ text: string | null | undefined }} props */
export function Markdown({ text }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const shown = (text ?? "").slice(0, MAX_RENDERED_CHARACTERS);
  useLayoutEffect(() => {
    place.current?.replaceChildren(nodesOf(shown));
  }, [shown]);
  return html`<div>
    <div class="prose" ref=${place}></div>
    ${(text ?? "").length > shown.length && html`<p class="meta">The text is longer; the raw JSON has all of it.</p>`}
  </div>`;
}
