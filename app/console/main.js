/** The console's entry point: renders the page in place of the served frame. */
import { App } from "./app.js";
import { html, render } from "./lib/html.js";
import { resume } from "./lib/session.js";

const place = /** @type {Element} */ (document.getElementById("app"));
place.replaceChildren();
render(html`<${App} />`, place);
delete document.documentElement.dataset.visitor;
resume();
