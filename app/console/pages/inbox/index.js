/** What waits for a person, by kind; a kind is a number in the navigation (`lib/inbox.js`) and a list here. */
import { Loading } from "../../components/states.js";
import { count } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { countWaiting, waiting } from "../../lib/inbox.js";
import { route, setQuery } from "../../lib/router.js";
import { Approvals } from "./approvals.js";
import { Reviews } from "./reviews.js";

/** @type {{ awaiting: string, title: string, text: string, List: any }[]} */
const KINDS = [
  { awaiting: "approval", title: "Approvals", text: "Tool calls that are made only if a person approves them.", List: Approvals },
  { awaiting: "review", title: "Reviews", text: "Ended runs on which no person has decided.", List: Reviews },
];

/** The first kind with something that waits: approvals hold runs up. */
const firstWaiting = () => KINDS.find((one) => waiting.value[one.awaiting] > 0) ?? KINDS[1];

export default function InboxPage() {
  const [first, setFirst] = useState(/** @type {typeof KINDS[number] | null} */ (null));
  const kind = KINDS.find((one) => one.awaiting === route.value.query.get("kind")) ?? first;

  useEffect(() => {
    countWaiting().catch(() => {}).then(() => setFirst(firstWaiting()));
  }, []);

  return html`<div class="page">
    <div class="page-head"><h1>Inbox</h1><p>${kind?.text}</p></div>
    <div class="chips" role="group" aria-label="Kind">
      ${KINDS.map((one) => html`<button key=${one.awaiting} class="chip" aria-pressed=${one === kind ? "true" : "false"} onClick=${() => setQuery({ kind: one.awaiting })}>${one.title} <span class="number">${count(waiting.value[one.awaiting] ?? 0)}</span></button>`)}
    </div>
    ${kind ? html`<${kind.List} />` : html`<${Loading} />`}
  </div>`;
}
