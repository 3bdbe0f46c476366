/** The console's entry. */
import { App } from "./app.js";
import { html, render } from "./lib/html.js";
import { resume } from "./lib/session.js";

render(html`<${App} />`, /** @type {Element} */ (document.getElementById("app")));
resume();
