/** Tokens, cost and cache by day, department, agent, model …; budgets. */
import { Columns } from "../components/chart.js";
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { Figures } from "../components/figures.js";
import { Icon } from "../components/icon.js";
import { Meter } from "../components/meter.js";
import { Empty, Loaded } from "../components/states.js";
import { Table } from "../components/table.js";
import { compact, count, counted, dollars, fullTime, percent } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { agentName, departmentName, orderedDepartments, readAll } from "../lib/names.js";
import { route, setQuery } from "../lib/router.js";
import { api, mayEdit } from "../lib/session.js";
import { errorsByField } from "../lib/use-form.js";

const EVERY_MS = 15_000;
const GROUPS = ["day", "department", "agent", "model", "purpose", "project", "apiKey", "tag"];
const NAMES = /** @type {Record<string, string>} */ ({ apiKey: "API key" });
const title = (/** @type {string} */ group) => NAMES[group] ?? group[0].toUpperCase() + group.slice(1);

/** @param {string} group @param {any} row */
function labelOf(group, row) {
  if (group === "department") return departmentName(row.key);
  if (group === "agent") return row.key ? agentName(row.key) : "–";
  return row.label ?? row.key ?? "–";
}

/** What the chart can show. Parts of a day are stacked. */
const MEASURES = [
  {
    id: "tokens", title: "Tokens", show: compact,
    series: [{ name: "Input", tone: "tone-1", of: (/** @type {any} */ day) => day.inputTokens }, { name: "Output", tone: "tone-2", of: (/** @type {any} */ day) => day.outputTokens }],
    text: (/** @type {any} */ day) => `${count(day.inputTokens)} tokens in, ${count(day.outputTokens)} out`,
  },
  {
    id: "cost", title: "Cost", show: (/** @type {number} */ value) => dollars(value),
    series: [{ name: "Cost", tone: "tone-1", of: (/** @type {any} */ day) => day.costUsd ?? 0 }],
    text: (/** @type {any} */ day) => `${dollars(day.costUsd)} for ${counted(day.calls, "call")}`,
  },
  {
    id: "calls", title: "Calls", show: compact,
    series: [
      { name: "Answered", tone: "tone-1", of: (/** @type {any} */ day) => Math.max(0, day.calls - day.failedCalls - day.cachedCalls) },
      { name: "Cached", tone: "tone-2", of: (/** @type {any} */ day) => day.cachedCalls },
      { name: "Failed", tone: "tone-bad", of: (/** @type {any} */ day) => day.failedCalls },
    ],
    text: (/** @type {any} */ day) => `${counted(day.calls, "call")}, ${count(day.cachedCalls)} cached, ${count(day.failedCalls)} failed`,
  },
];

export default function UsagePage() {
  const { query } = route.value;
  const group = GROUPS.find((one) => one === query.get("by")) ?? "day";
  const filters = { from: query.get("from") ?? "", to: query.get("to") ?? "", department: query.get("department") ?? "" };
  const key = JSON.stringify([group, filters]);
  const load = useLoad(
    async (signal) => {
      const [usage, days, cache] = await Promise.all([
        api().get("/analytics/usage", { ...filters, groupBy: group }, signal),
        api().get("/analytics/usage", { ...filters, groupBy: "day" }, signal),
        api().get("/analytics/cache", filters, signal),
      ]);
      return { usage, days, cache };
    },
    [key],
    { everyMs: EVERY_MS },
  );
  return html`<div class="page">
    <div class="page-head"><h1>Usage</h1></div>
    <div class="filters" role="search" aria-label="Filter usage">
      <${Field} label="From" kind="date" value=${filters.from} onInput=${(/** @type {string} */ from) => setQuery({ from })} />
      <${Field} label="To (not included)" kind="date" value=${filters.to} onInput=${(/** @type {string} */ to) => setQuery({ to })} />
      <${Field} label="Department" kind="select" value=${filters.department} onInput=${(/** @type {string} */ department) => setQuery({ department })}
        options=${[{ value: "", label: "All departments" }, ...orderedDepartments.value.map((one) => ({ value: one.slug, label: one.name }))]} />
    </div>
    <${Loaded} load=${load}>${(/** @type {any} */ data) => html`<${Report} ...${data} group=${group} />`}<//>
    ${mayEdit.value && html`<${Budgets} />`}
  </div>`;
}

/** @param {{ usage: any, days: any, cache: any, group: string }} props */
function Report({ usage, days, cache, group }) {
  const measure = MEASURES.find((one) => one.id === route.value.query.get("show")) ?? MEASURES[0];
  const points = days.groups.map((/** @type {any} */ day) => ({ key: day.key, values: measure.series.map((one) => one.of(day)), text: measure.text(day) }));
  const columns = [
    { title: title(group), cell: (/** @type {any} */ row) => html`<span class="clip">${labelOf(group, row)}</span>` },
    { title: "Executions", class: "right", cell: (/** @type {any} */ row) => count(row.executions) },
    { title: "Calls", class: "right", cell: (/** @type {any} */ row) => html`${count(row.calls)}${row.failedCalls ? html`<small> · ${count(row.failedCalls)} failed</small>` : ""}` },
    { title: "Cached", class: "right", cell: (/** @type {any} */ row) => count(row.cachedCalls) },
    { title: "Input", class: "right", cell: (/** @type {any} */ row) => count(row.inputTokens) },
    { title: "Output", class: "right", cell: (/** @type {any} */ row) => count(row.outputTokens) },
    { title: "Tokens", class: "right", cell: (/** @type {any} */ row) => count(row.totalTokens) },
    { title: "Cost", class: "right", cell: (/** @type {any} */ row) => html`${dollars(row.costUsd)}${row.unpricedCalls ? html`<small> · ${count(row.unpricedCalls)} unpriced</small>` : ""}` },
  ];
  return html`<${Figures} figures=${[
      { title: "Tokens", value: count(usage.totalTokens), note: `${count(Math.round(usage.averagePerExecution ?? 0))} per execution` },
      { title: "Cost", value: dollars(usage.costEstimate), note: usage.unpricedCalls ? `${counted(usage.unpricedCalls, "call")} without a price` : "list prices" },
      { title: "Executions", value: count(usage.executions) },
      { title: "Model calls", value: count(usage.calls), note: `${count(usage.failedCalls)} failed` },
      { title: "Cache hit rate", value: percent(cache.hitRate), note: `${count(cache.hits)} of ${count(cache.hits + cache.misses)}` },
      { title: "Saved by the cache", value: dollars(cache.savedCostUsd), note: `${counted(cache.savedTokens, "token")}` },
    ]} />
    <section class="card" aria-label=${`${measure.title} by day`}>
      <div class="card-head"><h2>${measure.title} by day</h2>
        <div class="chips push" role="group" aria-label="Measure">${MEASURES.map((one) => html`<button key=${one.id} class="chip" aria-pressed=${one === measure ? "true" : "false"} onClick=${() => setQuery({ show: one === MEASURES[0] ? null : one.id })}>${one.title}</button>`)}</div>
      </div>
      <${Columns} label=${`${measure.title} by day`} points=${points} series=${measure.series} show=${measure.show} empty="No model calls in this range" gap="no calls" />
    </section>
    <div class="chips" role="group" aria-label="Group by">
      ${GROUPS.map((one) => html`<button class="chip" aria-pressed=${one === group ? "true" : "false"} onClick=${() => setQuery({ by: one })}>${title(one)}</button>`)}
    </div>
    <${Table} label=${`Usage by ${title(group)}`} columns=${columns} rows=${usage.groups} rowKey=${(/** @type {any} */ row) => String(row.key)} empty=${html`<${Empty} icon="usage" title="No model calls in this range" />`} />`;
}

function Budgets() {
  const load = useLoad(() => readAll("/budgets"), [], { everyMs: EVERY_MS });
  const [editing, setEditing] = useState(/** @type {any} */ (null));
  const [removing, setRemoving] = useState("");
  return html`<section class="stack" aria-label="Budgets">
    <div class="card-head"><h2>Budgets</h2><button class="button push" onClick=${() => setEditing({ period: "month", alertAt: 0.8, timezone: "UTC" })}><${Icon} name="plus" />New budget</button></div>
    <${Loaded} load=${load} lines=${2}>
      ${(/** @type {any[]} */ budgets) => budgets.length
        ? html`<ul class="groups">${budgets.map((one) => html`<li key=${one.scope}><${Budget} budget=${one} onEdit=${() => setEditing(one)} onDelete=${() => setRemoving(one.scope)} /></li>`)}</ul>`
        : html`<div class="card"><${Empty} icon="usage" title="No budget"><p>A budget stops runs before they spend more than its limit.</p><//></div>`}
    <//>
    ${editing && html`<${BudgetDialog} budget=${editing} onClose=${() => setEditing(null)} onDone=${load.reload} />`}
    ${removing && html`<${Dialog} title=${`Delete the budget ${removing}?`} action="Delete" tone="danger" onClose=${() => setRemoving("")}
      onSubmit=${async () => { await api().delete(`/budgets/${encodeURIComponent(removing)}`); load.reload(); }}><p>Its scope is then unlimited.</p><//>`}
  </section>`;
}

/** @param {{ budget: any, onEdit: () => void, onDelete: () => void }} props */
function Budget({ budget, onEdit, onDelete }) {
  const limits = [
    budget.maxCostUsd !== null && { name: "Cost", used: budget.usedCostUsd ?? 0, max: budget.maxCostUsd, text: `${dollars(budget.usedCostUsd)} of ${dollars(budget.maxCostUsd)}` },
    budget.maxTokens !== null && { name: "Tokens", used: budget.usedTokens, max: budget.maxTokens, text: `${count(budget.usedTokens)} of ${count(budget.maxTokens)}` },
  ].filter(Boolean);
  return html`<div class="tile">
    <div class="tile-head"><span class="clip">${budget.scope}</span><span class="tag">${budget.period.toUpperCase()}</span></div>
    ${limits.map((/** @type {any} */ limit) => {
      const share = limit.used / limit.max;
      return html`<div class="stack-2"><span class="number">${limit.text}${share >= 1 ? html` <b class="bad-text">exhausted</b>` : ""}</span><${Meter} label=${`${limit.name} used`} value=${limit.used} max=${limit.max} tone=${share >= 1 ? "bad" : share >= budget.alertAt ? "warn" : ""} /></div>`;
    })}
    <span class="meta">${budget.resetsAt ? `Resets ${fullTime(budget.resetsAt)}` : "Never resets"}</span>
    <div class="actions"><button class="button" onClick=${onEdit}>Edit</button><button class="button danger" onClick=${onDelete}>Delete</button></div>
  </div>`;
}

/** @param {{ budget: any, onClose: () => void, onDone: () => void }} props */
function BudgetDialog({ budget, onClose, onDone }) {
  const isNew = !budget.scope;
  const [values, setValues] = useState({ scope: budget.scope ?? "global", maxCostUsd: budget.maxCostUsd ?? "", maxTokens: budget.maxTokens ?? "", period: budget.period, timezone: budget.timezone, alertAt: budget.alertAt });
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const set = (/** @type {string} */ name) => (/** @type {string} */ value) => setValues({ ...values, [name]: value });
  const save = async () => {
    const body = { period: values.period, timezone: values.timezone, alertAt: Number(values.alertAt), maxCostUsd: values.maxCostUsd === "" ? null : Number(values.maxCostUsd), maxTokens: values.maxTokens === "" ? null : Number(values.maxTokens) };
    try {
      await api().put(`/budgets/${encodeURIComponent(values.scope.trim())}`, body);
    } catch (error) {
      setErrors(errorsByField(error));
      throw error;
    }
    onDone();
  };
  return html`<${Dialog} title=${isNew ? "New budget" : `Budget ${budget.scope}`} action="Save" onClose=${onClose} onSubmit=${save}>
    <div class="fields">
      ${isNew && html`<${Field} wide label="Scope" value=${values.scope} onInput=${set("scope")} error=${errors.scope} hint="global, project:ID, department:SLUG, agent:ID or key:ID" />`}
      <${Field} label="maxCostUsd" kind="number" step="any" min="0" value=${values.maxCostUsd} onInput=${set("maxCostUsd")} error=${errors.maxCostUsd} />
      <${Field} label="maxTokens" kind="number" min="1" value=${values.maxTokens} onInput=${set("maxTokens")} error=${errors.maxTokens} />
      <${Field} label="period" kind="select" options=${["day", "month", "total"]} value=${values.period} onInput=${set("period")} error=${errors.period} />
      <${Field} label="timezone" value=${values.timezone} onInput=${set("timezone")} error=${errors.timezone} />
      <${Field} label="alertAt" kind="number" step="any" min="0" max="1" value=${values.alertAt} onInput=${set("alertAt")} error=${errors.alertAt} hint="Used share, 0 to 1." />
    </div>
  <//>`;
}
