/** Scores, gates, agreement of judge and people, and the weights of the dimensions. */
import { Columns } from "../components/chart.js";
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { Figures } from "../components/figures.js";
import { DepartmentMark } from "../components/mark.js";
import { Meter } from "../components/meter.js";
import { Empty, Loaded } from "../components/states.js";
import { Table } from "../components/table.js";
import { count, counted, percent, score } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { agentName, departmentName, orderedDepartments } from "../lib/names.js";
import { Link, route, setQuery } from "../lib/router.js";
import { api, mayEdit } from "../lib/session.js";
import { errorsByField } from "../lib/use-form.js";

const EVERY_MS = 20_000;
const SERIES = [{ name: "Score", tone: "tone-3" }];

export default function QualityPage() {
  const { query } = route.value;
  const filters = { from: query.get("from") ?? "", to: query.get("to") ?? "", department: query.get("department") ?? "" };
  const load = useLoad((signal) => api().get("/analytics/quality", filters, signal), [JSON.stringify(filters)], { everyMs: EVERY_MS });
  return html`<div class="page">
    <div class="page-head"><h1>Quality</h1></div>
    <div class="filters" role="search" aria-label="Filter quality">
      <${Field} label="From" kind="date" value=${filters.from} onInput=${(/** @type {string} */ from) => setQuery({ from })} />
      <${Field} label="To" kind="date" value=${filters.to} onInput=${(/** @type {string} */ to) => setQuery({ to })} />
      <${Field} label="Department" kind="select" value=${filters.department} onInput=${(/** @type {string} */ department) => setQuery({ department })}
        options=${[{ value: "", label: "All departments" }, ...orderedDepartments.value.map((one) => ({ value: one.slug, label: one.name }))]} />
    </div>
    <${Loaded} load=${load}>${(/** @type {any} */ data) => (data.executions ? html`<${Report} data=${data} />` : html`<div class="card"><${Empty} icon="quality" title="Nothing has been judged yet"><p>Scores appear once runs have ended.</p><//></div>`)}<//>
    <${Weights} />
  </div>`;
}

/** @param {{ data: any }} props */
function Report({ data }) {
  const { agreement } = data;
  const points = data.byDay.map((/** @type {any} */ day) => ({ key: day.key, values: [day.averageScore ?? 0], text: `score ${score(day.averageScore)} of ${counted(day.executions, "execution")}` }));
  return html`<${Figures} figures=${[
      { title: "Average score", value: score(data.averageScore), note: `${count(data.executions)} judged` },
      { title: "Reached threshold", value: percent(data.meetingThreshold), note: `target ${percent(data.target)}` },
      { title: "Revised", value: percent(data.revisionRate) },
      { title: "Judge and people agree", value: percent(agreement.share), note: `${count(agreement.agreed)} of ${count(agreement.reviewed)} reviews` },
    ]} />
    <div class="split">
      <section class="card" aria-label="Score by day"><h2>Score by day</h2><${Columns} label="Score by day" points=${points} series=${SERIES} show=${score} max=${100} empty="Nothing was judged in this range" gap="nothing judged" /></section>
      <section class="card" aria-label="Gates"><h2>Gates</h2>
        ${data.gates.map((/** @type {any} */ gate) => html`<div class="stack-2" key=${gate.name}><div class="card-head"><span>${gate.name}</span><span class="push number">${percent(gate.passRate)} <small>· ${count(gate.passed)} of ${count(gate.executions)}</small></span></div><${Meter} label=${`${gate.name} gate`} value=${gate.passRate} /></div>`)}
        <h2>Reviews</h2>
        <dl class="kv"><dt>Approved</dt><dd class="number">${count(data.reviews.approved)}</dd><dt>Rejected</dt><dd class="number">${count(data.reviews.rejected)}</dd><dt>Revision needed</dt><dd class="number">${count(data.reviews.revisionNeeded)}</dd><dt>Pending</dt><dd class="number">${count(data.reviews.pending)}</dd></dl>
      </section>
    </div>
    <${Groups} title="Department" rows=${data.byDepartment} nameOf=${(/** @type {any} */ row) => html`<span class="run-cell"><${DepartmentMark} slug=${row.key} small />${departmentName(row.key)}</span>`} />
    <${Groups} title="Agent" rows=${data.byAgent} nameOf=${(/** @type {any} */ row) => html`<${Link} class="row-link" to=${`/catalog/agents/${encodeURIComponent(row.key)}`}>${agentName(row.key)}<//>`} />`;
}

/** @param {{ title: string, rows: any[], nameOf: (row: any) => any }} props */
function Groups({ title, rows, nameOf }) {
  const columns = [
    { title, cell: nameOf },
    { title: "Executions", class: "right", cell: (/** @type {any} */ row) => count(row.executions) },
    { title: "Score", class: "right", cell: (/** @type {any} */ row) => score(row.averageScore) },
    { title: "Gate passed", class: "right", cell: (/** @type {any} */ row) => percent(row.gatePassRate) },
    { title: "Threshold reached", class: "right", cell: (/** @type {any} */ row) => percent(row.meetingThreshold) },
    { title: "Revised", class: "right", cell: (/** @type {any} */ row) => percent(row.revisionRate) },
  ];
  return html`<${Table} label=${`Quality by ${title.toLowerCase()}`} columns=${columns} rows=${rows} rowKey=${(/** @type {any} */ row) => row.key} />`;
}

function Weights() {
  const load = useLoad((signal) => api().get("/quality/weights", undefined, signal), []);
  const [slug, setSlug] = useState("");
  return html`<section class="stack" aria-label="Weights">
    <div class="card-head"><h2>Weights of the dimensions</h2></div>
    <${Loaded} load=${load} lines=${3}>
      ${(/** @type {any} */ weights) => html`<${WeightTable} weights=${weights} onEdit=${setSlug} />
        ${slug && html`<${WeightDialog} slug=${slug} weights=${weights[slug]} onClose=${() => setSlug("")} onDone=${load.reload} />`}`}
    <//>
  </section>`;
}

/** @param {{ weights: any, onEdit: (slug: string) => void }} props */
function WeightTable({ weights, onEdit }) {
  const dimensions = Object.keys(weights.default ?? {});
  const columns = [
    { title: "Department", cell: (/** @type {string} */ slug) => (slug === "default" ? "Default" : departmentName(slug)) },
    ...dimensions.map((name) => ({ title: name[0].toUpperCase() + name.slice(1), class: "right", cell: (/** @type {string} */ slug) => String(weights[slug][name]) })),
    ...(mayEdit.value ? [{ title: html`<span class="hidden">Actions</span>`, class: "right", cell: (/** @type {string} */ slug) => html`<button class="button" aria-label=${`Edit the weights of ${slug}`} onClick=${() => onEdit(slug)}>Edit</button>` }] : []),
  ];
  return html`<${Table} label="Weights" columns=${columns} rows=${Object.keys(weights)} rowKey=${(/** @type {string} */ slug) => slug} />`;
}

/** @param {{ slug: string, weights: any, onClose: () => void, onDone: () => void }} props */
function WeightDialog({ slug, weights, onClose, onDone }) {
  const [values, setValues] = useState({ ...weights });
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const save = async () => {
    try {
      await api().put(`/quality/weights/${encodeURIComponent(slug)}`, Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)])));
    } catch (error) {
      setErrors(errorsByField(error));
      throw error;
    }
    onDone();
  };
  return html`<${Dialog} title=${`Weights of ${slug === "default" ? "all other departments" : departmentName(slug)}`} action="Save" onClose=${onClose} onSubmit=${save}>
    <div class="fields">${Object.keys(weights).map((name) => html`<${Field} key=${name} label=${name} kind="number" step="any" min="0" value=${values[name]} error=${errors[name]} onInput=${(/** @type {string} */ value) => setValues({ ...values, [name]: value })} />`)}</div>
  <//>`;
}
