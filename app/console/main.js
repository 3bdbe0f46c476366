/** The console's entry: draws the page over the frame that it was served with. */
import { App } from "./app.js";
import { html, render } from "./lib/html.js";
import { resume } from "./lib/session.js";

render(html`<${App} />`, /** @type {Element} */ (document.getElementById("app")));
delete document.documentElement.dataset.visitor;
resume();
