/** The list of runs: filters in the address, live status, pages by cursor. */
import { Field } from "../../components/field.js";
import { Icon } from "../../components/icon.js";
import { DepartmentMark } from "../../components/mark.js";
import { Empty, Loaded } from "../../components/states.js";
import { Status } from "../../components/status.js";
import { Table } from "../../components/table.js";
import { ago, count, dollars, duration, firstLine, fullTime, score } from "../../lib/format.js";
import { html, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { agentName, agents, departmentName, orderedDepartments } from "../../lib/names.js";
import { Link, navigate, route, setQuery } from "../../lib/router.js";
import { api, may } from "../../lib/session.js";

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
const FILTERS = ["status", "kind", "department", "agent", "reviewStatus", "project", "from", "to"];

/** @param {any} run */
const isRoot = (run) => run.executionId === run.rootExecutionId;

/** Whether a run contains the words of a search. @param {any} run @param {string} words */
function matches(run, words) {
  const text = [run.prompt, run.executionId, agentName(run.agent), departmentName(run.department), run.startedBy?.name, ...run.tags].join(" ").toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function RunList() {
  const { query } = route.value;
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const cursors = query.getAll("cursor");
  const cursor = cursors.at(-1) ?? "";
  const shown = query.get("show") ?? "runs";
  const [words, setWords] = useState(query.get("q") ?? "");
  const key = JSON.stringify([filters, cursor]);
  const load = useLoad((signal) => api().get("/executions", { ...filters, cursor, limit: LIMIT, sort: "-createdAt" }, signal), [key], { everyMs: cursor ? 0 : EVERY_MS });
  const setFilter = (/** @type {string} */ name) => (/** @type {string} */ value) => setQuery({ [name]: value, cursor: null });
  const search = (/** @type {string} */ value) => {
    setWords(value);
    setQuery({ q: value });
  };
  const openById = (/** @type {KeyboardEvent} */ event) => {
    const text = words.trim();
    if (event.key === "Enter" && text.startsWith("exec_")) navigate(`/runs/${encodeURIComponent(text)}`);
  };

  return html`<div class="page">
    <div class="page-head">
      <h1>Runs</h1>
      ${load.data && html`<span class="meta number">${count(load.data.total)} executions</span>`}
      ${may("runner") && html`<button class="button primary push" onClick=${() => navigate("/start")}><${Icon} name="plus" />Start run</button>`}
    </div>
    <div class="filters" role="search" aria-label="Filter runs">
      <${Field} class="search" label="Search" kind="search" value=${words} onInput=${search} onKeyDown=${openById} placeholder="Words, or an execution id" />
      <${Field} label="Status" kind="select" options=${STATUSES} value=${filters.status} onInput=${setFilter("status")} />
      <${Field} label="Kind" kind="select" options=${KINDS} value=${filters.kind} onInput=${setFilter("kind")} />
      <${Field} label="Department" kind="select" value=${filters.department} onInput=${setFilter("department")}
        options=${[{ value: "", label: "All departments" }, ...orderedDepartments.value.map((one) => ({ value: one.slug, label: one.name }))]} />
      <${Field} label="Agent" kind="select" value=${filters.agent} onInput=${setFilter("agent")}
        options=${[{ value: "", label: "All agents" }, ...[...agents.value.values()].map((one) => ({ value: one.agentId, label: one.name }))]} />
      <${Field} label="Review" kind="select" options=${REVIEWS} value=${filters.reviewStatus} onInput=${setFilter("reviewStatus")} />
      <${Field} label="From" kind="date" value=${filters.from} onInput=${setFilter("from")} />
      <${Field} label="To" kind="date" value=${filters.to} onInput=${setFilter("to")} />
    </div>
    <div class="chips" role="group" aria-label="Show">
      ${[["runs", "Runs"], ["all", "All executions"]].map(
        ([id, title]) => html`<button class="chip" aria-pressed=${shown === id ? "true" : "false"} onClick=${() => setQuery({ show: id === "runs" ? null : id })}>${title}</button>`,
      )}
    </div>
    <${Loaded} load=${load} lines=${10}>
      ${(/** @type {any} */ page) => html`<${Rows} rows=${page.items.filter((/** @type {any} */ run) => (shown === "all" || isRoot(run)) && matches(run, words))} hasFilter=${words !== "" || Object.values(filters).some(Boolean)} />
        <${Pages} page=${page} cursors=${cursors} />`}
    <//>
  </div>`;
}

/** @param {{ rows: any[], hasFilter: boolean }} props */
function Rows({ rows, hasFilter }) {
  const columns = [
    { title: "Status", cell: (/** @type {any} */ run) => html`<${Status} status=${run.status} />` },
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
  if (hasFilter) return html`<${Empty} icon="search" title="No run matches"><p>Change the filters, or look at the next page.</p><//>`;
  return html`<${Empty} icon="runs" title="No runs yet">
    <p>Start the sample: the Story department outlines a short film.</p>
    ${may("runner") && html`<${Link} to="/start?sample=1" class="button primary">Start the sample run<//>`}
  <//>`;
}

/** @param {{ page: any, cursors: string[] }} props */
function Pages({ page, cursors }) {
  if (!page.nextCursor && cursors.length === 0) return null;
  const go = (/** @type {string[]} */ next) => {
    const query = new URLSearchParams(location.search);
    query.delete("cursor");
    for (const one of next) query.append("cursor", one);
    navigate(`/runs?${query}`);
  };
  return html`<div class="actions" role="group" aria-label="Pages">
    <button class="button" disabled=${cursors.length === 0} onClick=${() => go(cursors.slice(0, -1))}>Previous</button>
    <span class="meta">Page ${cursors.length + 1}</span>
    <button class="button" disabled=${!page.nextCursor} onClick=${() => go([...cursors, page.nextCursor])}>Next</button>
  </div>`;
}
