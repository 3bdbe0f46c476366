/** Choosing the run to compare with: recent ones of the same kind, or any by words or id. */
import { Field } from "../../components/field.js";
import { Empty, Loaded } from "../../components/states.js";
import { Status } from "../../components/status.js";
import { Table } from "../../components/table.js";
import { ago, dollars, firstLine, score } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { agentName, departmentName } from "../../lib/names.js";
import { api } from "../../lib/session.js";
import { RunCell } from "../runs/list.js";

const LIMIT = 20;
const SEARCH_PAUSE_MS = 250;

/** What a run was of. @param {any} run */
const subjectOf = (run) => (run.kind === "agent" ? agentName(run.agent) : run.kind === "department" ? departmentName(run.department) : "orchestrations");

/** @param {{ first: any, onChoose: (id: string) => void }} props */
export function Chooser({ first, onChoose }) {
  const [words, setWords] = useState("");
  const [q, setQ] = useState("");
  const [isSame, setSame] = useState(true);
  useEffect(() => {
    const timer = setTimeout(() => setQ(words.trim()), SEARCH_PAUSE_MS);
    return () => clearTimeout(timer);
  }, [words]);
  const same = first && isSame ? { kind: first.kind, ...(first.kind === "agent" ? { agent: first.agent } : { department: first.department }) } : {};
  const query = { ...same, q, isRoot: "true", limit: LIMIT, sort: "-createdAt" };
  const load = useLoad((signal) => api().get("/executions", query, signal), [JSON.stringify(query)]);
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && words.trim().startsWith("exec_")) onChoose(words.trim());
  };
  const columns = [
    { title: "Status", cell: (/** @type {any} */ run) => html`<${Status} status=${run.status} />` },
    { title: "Run", class: "grow", cell: (/** @type {any} */ run) => html`<${RunCell} run=${run} />` },
    { title: "Score", class: "right optional", cell: (/** @type {any} */ run) => score(run.qualityScore) },
    { title: "Cost", class: "right optional", cell: (/** @type {any} */ run) => dollars(run.total ? run.total.costUsd : run.costUsd) },
    { title: "Started", class: "right optional", cell: (/** @type {any} */ run) => ago(run.createdAt) },
    { title: html`<span class="hidden">Actions</span>`, class: "right", cell: (/** @type {any} */ run) => html`<button class="button" aria-label=${`Choose ${firstLine(run.prompt, 60) || run.executionId}`} onClick=${() => onChoose(run.executionId)}>Choose</button>` },
  ];
  return html`<section class="stack" aria-label="Choose a run">
    ${first && html`<p class="muted">Compare “${firstLine(first.prompt, 120)}” with:</p>`}
    <div class="filters" role="search" aria-label="Find a run">
      <${Field} class="search" label="Search" kind="search" value=${words} onInput=${setWords} onKeyDown=${onKeyDown} maxlength="200" placeholder="Words of the prompt, or an execution id" />
      ${first && html`<div class="chips" role="group" aria-label="Which runs">
        <button class="chip" aria-pressed=${isSame ? "true" : "false"} onClick=${() => setSame(true)}>Of ${subjectOf(first)}</button>
        <button class="chip" aria-pressed=${isSame ? "false" : "true"} onClick=${() => setSame(false)}>All runs</button>
      </div>`}
    </div>
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`<${Table} label="Runs to choose from" columns=${columns} rows=${page.items.filter((/** @type {any} */ run) => run.executionId !== first?.executionId)}
      rowKey=${(/** @type {any} */ run) => run.executionId} empty=${html`<${Empty} icon="search" title="No other run"><p>Search for words of its prompt, or start it again.</p><//>`} />`}<//>
  </section>`;
}
