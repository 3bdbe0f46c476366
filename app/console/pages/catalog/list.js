/** The entries of one kind. */
import { Field } from "../../components/field.js";
import { Icon } from "../../components/icon.js";
import { DepartmentMark } from "../../components/mark.js";
import { Empty, Loaded } from "../../components/states.js";
import { counted, percent } from "../../lib/format.js";
import { html, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { departmentName, readAll } from "../../lib/names.js";
import { Link, navigate } from "../../lib/router.js";
import { mayEdit } from "../../lib/session.js";

/** @param {{ kind: import("./kinds.js").Kind }} props */
export function List({ kind }) {
  const load = useLoad(() => readAll(kind.path), [kind.id]);
  const [words, setWords] = useState("");
  return html`<div class="filters">
      <${Field} class="search" label="Search" kind="search" value=${words} onInput=${setWords} placeholder="Key, name or description" />
      ${mayEdit.value && html`<button class="button primary push" onClick=${() => navigate(`/catalog/${kind.id}/new`)}><${Icon} name="plus" />New</button>`}
    </div>
    <${Loaded} load=${load}>
      ${(/** @type {any[]} */ all) => {
        const found = all.filter((one) => `${one[kind.key]} ${one[kind.name]} ${one.description}`.toLowerCase().includes(words.toLowerCase()));
        return found.length
          ? html`<ul class="groups">${found.map((one) => html`<li key=${one[kind.key]}><${Tile} kind=${kind} entry=${one} /></li>`)}</ul>`
          : html`<div class="card"><${Empty} icon="catalog" title=${all.length ? "No matching entries" : `No ${kind.one} yet`} /></div>`;
      }}
    <//>`;
}

/** @param {{ kind: import("./kinds.js").Kind, entry: any }} props */
function Tile({ kind, entry }) {
  const slug = kind.id === "departments" ? entry.slug : (entry.department ?? entry.departments?.[0]);
  const facts = {
    departments: `priority ${entry.priority} · ${counted(entry.totalExecutions, "execution")}`,
    agents: `${counted(entry.totalExecutions, "execution")}${entry.successRate === null ? "" : ` · ${percent(entry.successRate / 100)} completed`}`,
    tools: `version ${entry.version} · ${counted(entry.totalExecutions, "call")}`,
  }[kind.id];
  const place = kind.id === "agents" && entry.department ? ` · ${departmentName(entry.department)}` : "";
  return html`<${Link} class="tile" to=${`/catalog/${kind.id}/${encodeURIComponent(entry[kind.key])}`}>
    <span class="tile-head">
      ${kind.id === "tools" ? html`<span class="mark small"><${Icon} name="tool" /></span>` : html`<${DepartmentMark} slug=${slug} small />`}
      <span class="clip">${entry[kind.name]}</span>
      ${entry.isDepartmentHead && html`<span class="tag">HEAD</span>`}
      ${!entry.isActive && html`<span class="tag warn">INACTIVE</span>`}
    </span>
    <p>${entry.description}</p>
    <span class="meta"><span class="clip">${entry[kind.key]}${place}</span><span class="clip">${facts}</span></span>
  <//>`;
}
