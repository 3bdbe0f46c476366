/** `/catalog/{kind}` lists, `/catalog/{kind}/{key}` edits, `/catalog/{kind}/new` creates. */
import { html } from "../../lib/html.js";
import { Link } from "../../lib/router.js";
import { Edit } from "./edit.js";
import { KINDS } from "./kinds.js";
import { List } from "./list.js";

/** @param {{ parts: string[] }} props */
export default function Catalog({ parts }) {
  const kind = KINDS.find((one) => one.id === parts[0]) ?? KINDS[0];
  const key = parts[1];
  return html`<div class="page">
    <div class="page-head"><h1>Catalog</h1></div>
    <div class="tabs" role="group" aria-label="Kind of entry">
      ${KINDS.map((one) => html`<${Link} key=${one.id} to=${`/catalog/${one.id}`} aria-current=${one === kind ? "page" : undefined}>${one.title}<//>`)}
    </div>
    ${key ? html`<${Edit} key=${`${kind.id}/${key}`} kind=${kind} entryKey=${key === "new" ? null : key} />` : html`<${List} key=${kind.id} kind=${kind} />`}
  </div>`;
}
