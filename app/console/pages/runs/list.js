/** The list of runs: filters in the address, live status, pages by cursor. */
import { Field, TextFilter } from "../../components/field.js";
import { Icon } from "../../components/icon.js";
import { DepartmentMark } from "../../components/mark.js";
import { Pages } from "../../components/pages.js";
import { Empty, Loaded } from "../../components/states.js";
import { shownStatus, Status } from "../../components/status.js";
import { Table } from "../../components/table.js";
import { ago, count, dollars, duration, firstLine, fullTime, score } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { agentName, agents, departmentName, orderedDepartments, readAll } from "../../lib/names.js";
import { Link, navigate, route, setQuery } from "../../lib/router.js";
import { api, may, mayEdit } from "../../lib/session.js";

const LIMIT = 50;
const EVERY_MS = 2500;
const KINDS = [
  { value: "", label: "All kinds" },
  { value: "agent", label: "Agent" },
  { value: "department", label: "Department" },
  { value: "orchestration", label: "Orchestration" },
];
const STATUSES = ["", "running", "pending", "completed", "failed", "cancelled"].map((value) => ({ value, label: value ? value[0].toUpperCase() + value.slice(1) : "Any status" }));
const REVIEWS = [
  { value: "", label: "Any review" },
  { value: "pending", label: "Pending" },
  { value: "approved", label: "Approved" },
  { value: "rejected", label: "Rejected" },
  { value: "revision-needed", label: "Revision needed" },
];
const WAITING = [
  { value: "", label: "Anything" },
  { value: "review", label: "A review" },
  { value: "approval", label: "An approval" },
];
const MAIN = ["q", "status", "kind", "department", "agent", "reviewStatus"];
const MORE = ["from", "to", "awaiting", "minCostUsd", "apiKey", "project", "episode"];
const SEARCH_PAUSE_MS = 250;
const MAX_COUNTED = 10_000;

/** @param {any} run */
const isRoot = (run) => run.executionId === run.rootExecutionId;

export function RunList() {
  const { query } = route.value;
  const filters = Object.fromEntries([...MAIN, ...MORE].map((name) => [name, query.get(name) ?? ""]));
  const cursors = query.getAll("cursor");
  const cursor = cursors.at(-1) ?? "";
  const showsAll = query.get("show") === "all";
  const [chosen, setChosen] = useState(/** @type {string[]} */ ([]));
  const asked = { ...filters, isRoot: showsAll ? "" : "true", cursor, limit: LIMIT, sort: "-createdAt" };
  const load = useLoad((signal) => api().get("/executions", asked, signal), [JSON.stringify(asked)], { everyMs: cursor ? 0 : EVERY_MS });
  const choose = (/** @type {string} */ id, /** @type {boolean} */ isChosen) => setChosen(isChosen ? [...chosen, id].slice(-2) : chosen.filter((/** @type {string} */ one) => one !== id));

  return html`<div class="page">
    <div class="page-head">
      <h1>Runs</h1>
      ${load.data && html`<span class="meta number" role="status" aria-label="Found">${totalText(load.data.total, Boolean(filters.q || filters.awaiting), showsAll)}</span>`}
      <div class="actions push">
        <button class="button" disabled=${chosen.length !== 2} title="Choose two runs in the list" onClick=${() => navigate(compareAddress(chosen[0], chosen[1]))}><${Icon} name="compare" />Compare</button>
        ${may("runner") && html`<button class="button primary" onClick=${() => navigate("/start")}><${Icon} name="plus" />Start run</button>`}
      </div>
    </div>
    <${Filters} filters=${filters} />
    <div class="chips" role="group" aria-label="Show">
      ${[["runs", "Runs"], ["all", "All executions"]].map(
        ([id, title]) => html`<button class="chip" aria-pressed=${(id === "all") === showsAll ? "true" : "false"} onClick=${() => setQuery({ show: id === "runs" ? null : id, cursor: null })}>${title}</button>`,
      )}
    </div>
    <${Loaded} load=${load} lines=${10}>
      ${(/** @type {any} */ page) => html`<${Rows} rows=${page.items} chosen=${chosen} onChoose=${choose} hasFilter=${Object.values(filters).some(Boolean)} />
        <${Pages} page=${page} cursors=${cursors} />`}
    <//>
  </div>`;
}

/**
 * @param {number} total
 * @param {boolean} isSearch searches count up to a limit
 * @param {boolean} showsAll
 */
const totalText = (total, isSearch, showsAll) => `${count(total)}${isSearch && total >= MAX_COUNTED ? "+" : ""} ${showsAll ? "executions" : total === 1 ? "run" : "runs"}`;

/** @param {{ filters: Record<string, string> }} props */
function Filters({ filters }) {
  const [words, setWords] = useState(filters.q);
  useEffect(() => {
    if (filters.q !== words.trim()) setWords(filters.q);
  }, [filters.q]);
  useEffect(() => {
    if (words.trim() === filters.q) return undefined;
    const timer = setTimeout(() => setQuery({ q: words.trim(), cursor: null }), SEARCH_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [words]);
  const set = (/** @type {string} */ name) => (/** @type {string} */ value) => setQuery({ [name]: value.trim(), cursor: null });
  const openById = (/** @type {KeyboardEvent} */ event) => {
    const text = words.trim();
    if (event.key === "Enter" && text.startsWith("exec_")) navigate(`/runs/${encodeURIComponent(text)}`);
  };
  const used = MORE.filter((name) => filters[name]).length;
  return html`<div class="stack-2" role="search" aria-label="Filter runs">
    <div class="filters">
      <${Field} class="search" label="Search" kind="search" value=${words} onInput=${setWords} onKeyDown=${openById} maxlength="200" placeholder="Words of the prompt, or an execution id" />
      <${Field} label="Status" kind="select" options=${STATUSES} value=${filters.status} onInput=${set("status")} />
      <${Field} label="Kind" kind="select" options=${KINDS} value=${filters.kind} onInput=${set("kind")} />
      <${Field} label="Department" kind="select" value=${filters.department} onInput=${set("department")}
        options=${[{ value: "", label: "All departments" }, ...orderedDepartments.value.map((/** @type {any} */ one) => ({ value: one.slug, label: one.name }))]} />
      <${Field} label="Agent" kind="select" value=${filters.agent} onInput=${set("agent")}
        options=${[{ value: "", label: "All agents" }, ...[...agents.value.values()].map((/** @type {any} */ one) => ({ value: one.agentId, label: one.name }))]} />
      <${Field} label="Review" kind="select" options=${REVIEWS} value=${filters.reviewStatus} onInput=${set("reviewStatus")} />
    </div>
    <details class="more-filters" open=${used > 0}>
      <summary>More filters${used > 0 && html` <span class="count">${used}</span>`}</summary>
      <div class="filters">
        <${Field} label="From" kind="date" value=${filters.from} onInput=${set("from")} />
        <${Field} label="To" kind="date" value=${filters.to} onInput=${set("to")} />
        <${Field} label="Waiting for" kind="select" options=${WAITING} value=${filters.awaiting} onInput=${set("awaiting")} />
        <${TextFilter} label="Minimum cost in USD" kind="number" min="0" step="any" value=${filters.minCostUsd} onDone=${set("minCostUsd")} />
        ${(mayEdit.value || filters.apiKey) && html`<${KeyFilter} value=${filters.apiKey} onInput=${set("apiKey")} />`}
        <${TextFilter} label="Project" value=${filters.project} onDone=${set("project")} placeholder="Its id" spellcheck="false" />
        <${TextFilter} label="Episode" value=${filters.episode} onDone=${set("episode")} placeholder="Its id" spellcheck="false" />
      </div>
    </details>
  </div>`;
}

/** @param {{ value: string, onInput: (value: string) => void }} props */
function KeyFilter({ value, onInput }) {
  const load = useLoad(async () => (mayEdit.value ? readAll("/api-keys") : []), []);
  const keys = (load.data ?? []).map((/** @type {any} */ one) => ({ value: one.id, label: one.name }));
  const known = value === "" || keys.some((/** @type {any} */ one) => one.value === value);
  return html`<${Field} label="API key" kind="select" value=${value} onInput=${onInput} options=${[{ value: "", label: "Any key" }, ...keys, ...(known ? [] : [{ value, label: value }])]} />`;
}

/** @param {{ rows: any[], chosen: string[], onChoose: (id: string, isChosen: boolean) => void, hasFilter: boolean }} props */
function Rows({ rows, chosen, onChoose, hasFilter }) {
  const columns = [
    {
      title: html`<span class="hidden">Compare</span>`,
      class: "choice-cell",
      cell: (/** @type {any} */ run) => html`<input type="checkbox" aria-label=${`Compare ${firstLine(run.prompt, 60) || run.executionId}`} checked=${chosen.includes(run.executionId)} onInput=${(/** @type {any} */ event) => onChoose(run.executionId, event.target.checked)} />`,
    },
    { title: "Status", cell: (/** @type {any} */ run) => html`<${Status} status=${shownStatus(run)} />${run.archivedAt && html` <span class="meta optional">Archived</span>`}` },
    { title: "Run", class: "grow", cell: (/** @type {any} */ run) => html`<${RunCell} run=${run} />` },
    { title: "Score", class: "right optional", cell: (/** @type {any} */ run) => score(run.qualityScore) },
    { title: "Review", class: "optional", cell: (/** @type {any} */ run) => (run.reviewStatus === "pending" ? html`<span class="meta">–</span>` : html`<${Status} status=${run.reviewStatus} />`) },
    { title: "Tokens", class: "right optional", cell: (/** @type {any} */ run) => count(run.total?.tokenUsage?.total ?? run.tokenUsage?.total) },
    { title: "Cost", class: "right", cell: (/** @type {any} */ run) => dollars(run.total ? run.total.costUsd : run.costUsd) },
    { title: "Time", class: "right optional", cell: (/** @type {any} */ run) => duration(run.executionTime ?? (run.startedAt && run.status === "running" ? Date.now() - Date.parse(run.startedAt) : null)) },
    { title: "Started", class: "right", cell: (/** @type {any} */ run) => html`<time datetime=${run.createdAt} title=${fullTime(run.createdAt)}>${ago(run.createdAt)}</time>` },
  ];
  return html`<${Table} label="Runs" columns=${columns} rows=${rows} rowKey=${(/** @type {any} */ run) => run.executionId} to=${addressOf} empty=${html`<${NoRuns} hasFilter=${hasFilter} />`} />`;
}

/** @param {string} left @param {string} right */
export const compareAddress = (left, right) => `/compare?left=${encodeURIComponent(left)}&right=${encodeURIComponent(right)}`;

/** @param {any} run */
export const addressOf = (run) =>
  isRoot(run) ? `/runs/${encodeURIComponent(run.executionId)}` : `/runs/${encodeURIComponent(run.rootExecutionId)}?at=${encodeURIComponent(run.executionId)}`;

/** @param {{ run: any }} props */
export function RunCell({ run }) {
  const who = run.kind === "agent" ? agentName(run.agent) : run.kind === "orchestration" ? "Orchestration" : departmentName(run.department);
  return html`<div class="run-cell">
    <${DepartmentMark} slug=${run.department} small />
    <div class="clip">
      <${Link} to=${addressOf(run)} class="row-link">${firstLine(run.prompt) || run.executionId}<//>
      <div class="meta clip">${who}${run.startedBy ? ` · ${run.startedBy.name}` : ""}${run.tags.length ? ` · ${run.tags.join(", ")}` : ""}</div>
    </div>
  </div>`;
}

/** @param {{ hasFilter: boolean }} props */
function NoRuns({ hasFilter }) {
  if (hasFilter) return html`<${Empty} icon="search" title="No matching runs"><p>Change or clear the filters.</p><//>`;
  return html`<${Empty} icon="runs" title="No runs yet">
    <p>Start the sample: the Story department outlines a short film.</p>
    ${may("runner") && html`<${Link} to="/start?sample=1" class="button primary">Start the sample run<//>`}
  <//>`;
}
