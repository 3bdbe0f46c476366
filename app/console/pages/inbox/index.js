/** What waits for a person, by kind; a kind is a number in the navigation (`lib/inbox.js`) and a list here. */
import { count } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { waiting } from "../../lib/inbox.js";
import { route, setQuery } from "../../lib/router.js";
import { Reviews } from "./reviews.js";

/** @type {{ awaiting: string, title: string, text: string, List: any }[]} */
const KINDS = [{ awaiting: "review", title: "Reviews", text: "Ended runs on which no person has decided.", List: Reviews }];

export default function InboxPage() {
  const kind = KINDS.find((one) => one.awaiting === route.value.query.get("kind")) ?? KINDS[0];
  return html`<div class="page">
    <div class="page-head"><h1>Inbox</h1><p>${kind.text}</p></div>
    ${KINDS.length > 1 && html`<div class="chips" role="group" aria-label="Kind">
      ${KINDS.map((one) => html`<button key=${one.awaiting} class="chip" aria-pressed=${one === kind ? "true" : "false"} onClick=${() => setQuery({ kind: one.awaiting })}>${one.title} <span class="number">${count(waiting.value[one.awaiting] ?? 0)}</span></button>`)}
    </div>`}
    <${kind.List} />
  </div>`;
}
