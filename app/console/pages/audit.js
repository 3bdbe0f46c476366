/** The audit log on the page of operations: its entries with filters, and their verification. */
import { Field, TextFilter } from "../components/field.js";
import { Icon } from "../components/icon.js";
import { Pages } from "../components/pages.js";
import { Empty, Loaded, Problem } from "../components/states.js";
import { Table } from "../components/table.js";
import { copy } from "../lib/clipboard.js";
import { counted, fullTime } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { Link, route, setQuery } from "../lib/router.js";
import { api } from "../lib/session.js";

const LIMIT = 25;
const FILTERS = ["action", "actor", "target", "from", "to"];
const HASH_SHOWN = 12;
const KINDS = [
  { value: "", label: "All actions" },
  { value: "department.*", label: "Departments" },
  { value: "agent.*", label: "Agents" },
  { value: "custom-tool.*", label: "Tools" },
  { value: "weights.*", label: "Weights" },
  { value: "api-key.*", label: "API keys" },
  { value: "budget.*", label: "Budgets" },
  { value: "execution.*", label: "Runs" },
  { value: "approval.*", label: "Approvals" },
];
/** @type {Record<string, (key: string) => string>} */
const PAGES_OF = {
  department: (key) => `/catalog/departments/${key}`,
  agent: (key) => `/catalog/agents/${key}`,
  "custom-tool": (key) => `/catalog/tools/${key}`,
  execution: (key) => `/runs/${key}`,
};

export function AuditLog() {
  const { query } = route.value;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const cursors = query.getAll("cursor");
  const asked = { ...filters, cursor: cursors.at(-1) ?? "", limit: LIMIT };
  const load = useLoad((signal) => api().get("/audit", asked, signal), [JSON.stringify(asked)]);
  return html`<section class="stack" aria-label="Audit log">
    <div class="card-head"><h2>Audit log</h2>${load.data && html`<span class="meta number">${counted(load.data.total, "entry", "entries")}</span>`}</div>
    <${Verification} />
    <${Filters} filters=${filters} />
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`<${Entries} rows=${page.items} hasFilter=${Object.values(filters).some(Boolean)} /><${Pages} page=${page} cursors=${cursors} />`}<//>
  </section>`;
}

/** The button that verifies everything, and its result. */
function Verification() {
  const [state, setState] = useState(/** @type {any} */ ({}));
  const verify = async () => {
    setState({ isBusy: true });
    try {
      setState({ result: await api().get("/audit/verify") });
    } catch (error) {
      setState({ error });
    }
  };
  return html`<div class="stack-2" aria-busy=${state.isBusy ? "true" : "false"}>
    <div class="cluster"><button class="button" disabled=${state.isBusy} onClick=${verify}><${Icon} name="check" />${state.isBusy ? "Verifying" : "Verify"}</button>
      <span class="meta">Checks every entry, and the stored events of every run that has ended.</span></div>
    ${state.error && html`<${Problem} error=${state.error} onRetry=${verify} />`}
    ${state.result && html`<${Result} result=${state.result} />`}
  </div>`;
}

/** @param {{ result: any }} props */
function Result({ result }) {
  const head = `${result.head.seq}:${result.head.hash}`;
  const bad = result.firstBad;
  return html`<div class=${`note ${result.ok ? "ok" : "bad"}`} role="status"><${Icon} name=${result.ok ? "check" : "warning"} />
    <div class="stack-2">
      <b>${result.ok ? `Verified: ${counted(result.checked, "entry", "entries")} and ${counted(result.trees, "run")} match` : `The audit log does not match: ${bad.executionId ? `run ${bad.executionId}` : `entry ${bad.seq}`}`}</b>
      ${bad && html`<span>${bad.reason}</span>`}
      <div class="cluster"><code class="key-shown">${head}</code><button class="button" onClick=${() => copy(head, "Head")}>Copy head</button></div>
    </div>
  </div>`;
}

/** @param {{ filters: Record<string, string> }} props */
function Filters({ filters }) {
  const set = (/** @type {string} */ name) => (/** @type {string} */ value) => setQuery({ [name]: value.trim(), cursor: null });
  return html`<div class="filters" role="search" aria-label="Filter the audit log">
    <${Field} label="Action" kind="select" options=${KINDS.some((one) => one.value === filters.action) ? KINDS : [...KINDS, { value: filters.action, label: filters.action }]} value=${filters.action} onInput=${set("action")} />
    <${TextFilter} label="Actor" value=${filters.actor} onDone=${set("actor")} maxlength="300" placeholder="Name" />
    <${TextFilter} label="Target" value=${filters.target} onDone=${set("target")} maxlength="300" placeholder="Kind/key" spellcheck="false" />
    <${Field} label="From" kind="date" value=${filters.from} onInput=${set("from")} />
    <${Field} label="To" kind="date" value=${filters.to} onInput=${set("to")} />
  </div>`;
}

/** @param {{ rows: any[], hasFilter: boolean }} props */
function Entries({ rows, hasFilter }) {
  const columns = [
    { title: "No.", class: "right", cell: (/** @type {any} */ one) => html`<span class="number">${one.seq}</span>` },
    { title: "Time", class: "whole moment", cell: (/** @type {any} */ one) => html`<time datetime=${one.at}>${fullTime(one.at)}</time>` },
    { title: "Actor", class: "whole", cell: (/** @type {any} */ one) => html`${one.actor.name} <span class="meta optional">${one.actor.type}</span>` },
    { title: "Action", class: "whole", cell: (/** @type {any} */ one) => html`<b>${one.action}</b>` },
    { title: "Target", class: "key", cell: (/** @type {any} */ one) => html`<${Target} target=${one.target} />` },
    { title: "Detail", class: "grow optional", cell: (/** @type {any} */ one) => html`<span class="meta">${detailText(one.detail)}</span>` },
    { title: "Hash", class: "optional", cell: (/** @type {any} */ one) => html`<code title=${one.hash}>${one.hash.slice(0, HASH_SHOWN)}</code>` },
  ];
  const empty = hasFilter
    ? html`<${Empty} icon="search" title="No matching entries"><p>Change or clear the filters.</p><//>`
    : html`<${Empty} icon="operations" title="No entries yet"><p>Changes to the catalog, keys and budgets, reviews, and ends of runs appear here.</p><//>`;
  return html`<${Table} label="Audit log" columns=${columns} rows=${rows} rowKey=${(/** @type {any} */ one) => String(one.seq)} empty=${empty} />`;
}

/** @param {{ target: { kind: string, key: string } }} props */
function Target({ target }) {
  const address = PAGES_OF[target.kind]?.(encodeURIComponent(target.key));
  return address ? html`<${Link} to=${address}>${target.key}<//>` : html`${target.key}`;
}

/** The details as one line; hashes are cut. @param {Record<string, any>} detail */
const detailText = (detail) =>
  Object.entries(detail)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(", ") : name === "eventsHash" ? String(value).slice(0, HASH_SHOWN) : value}`)
    .join(" · ");
