/** The selected execution or event, at the right. */
import { Json } from "../../components/json.js";
import { Markdown } from "../../components/markdown.js";
import { DepartmentMark } from "../../components/mark.js";
import { Meter } from "../../components/meter.js";
import { Empty, Loaded } from "../../components/states.js";
import { isEnded, Status } from "../../components/status.js";
import { Tabs } from "../../components/tabs.js";
import { Icon } from "../../components/icon.js";
import { copy, readCommand } from "../../lib/clipboard.js";
import { count, dollars, duration, fullTime, score } from "../../lib/format.js";
import { html, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { agentName } from "../../lib/names.js";
import { useCalm } from "../../lib/now.js";
import { setQuery } from "../../lib/router.js";
import { api, may } from "../../lib/session.js";
import { Approvals } from "./approvals.js";
import { EventDetails } from "./event-details.js";

/** @typedef {import("../../model/run-state.js").ExecutionState} ExecutionState */

const MAX_ROWS = 100;
const TABS = [
  { id: "output", title: "Output" },
  { id: "prompt", title: "Prompt" },
  { id: "tools", title: "Tools" },
  { id: "quality", title: "Quality" },
  { id: "cost", title: "Cost" },
  { id: "json", title: "JSON" },
];

/**
 * @param {{ run: import("../../model/run-state.js").RunState, execution: ExecutionState, version: number, waiting: string, selectedSeq: number | null }} props
 */
export function Details({ run, execution, version, waiting, selectedSeq }) {
  const [tab, setTab] = useState("output");
  const event = selectedSeq === null ? null : run.events.find((one) => one.seq === selectedSeq);
  const name = execution.name || agentName(execution.agentId);
  return html`<aside class="details" aria-label="Details">
    <div class="details-head">
      <${DepartmentMark} slug=${execution.department} />
      <div class="grow-1">
        <h2 class="clip">${name}</h2>
        <div class="meta">${[execution.agentId, execution.model].filter(Boolean).join(" · ")}</div>
      </div>
      <${Status} status=${execution.status} />
    </div>
    <div class="actions">
      <button class="button plain" onClick=${() => copy(execution.id, "Id")}><${Icon} name="copy" />Copy id</button>
      <button class="button plain" onClick=${() => copy(readCommand(`/api/v1/executions/${execution.id}`), "Command")}><${Icon} name="copy" />curl</button>
    </div>
    ${execution.error && html`<div class="note bad"><${Icon} name="warning" /><span><b>${execution.error.code}</b> ${execution.error.message}${execution.error.details?.length > 1 ? html`<ul class="issues">${execution.error.details.map((/** @type {any} */ one) => html`<li>${one.path || "data"}: ${one.message}</li>`)}</ul>` : ""}${execution.error.providerMessage ? html`<br />${execution.error.providerMessage}` : ""}</span></div>`}
    <${Approvals} run=${run} execution=${execution} waiting=${waiting} />
    ${event
      ? html`<${EventDetails} key=${event.seq} event=${event} rootId=${run.rootId} onClose=${() => setQuery({ event: null })} />`
      : html`<${Tabs} label="Parts of the execution" tabs=${TABS} selected=${tab} onSelect=${setTab}><${Panel} tab=${tab} execution=${execution} version=${version} /><//>`}
  </aside>`;
}

/** @param {{ tab: string, execution: ExecutionState, version: number }} props */
function Panel({ tab, execution, version }) {
  const shown = { execution, version };
  switch (tab) {
    case "prompt":
      return html`<${Prompts} ...${shown} />`;
    case "tools":
      return html`<${Tools} ...${shown} />`;
    case "quality":
      return html`<${Quality} ...${shown} />`;
    case "cost":
      return html`<${Cost} ...${shown} />`;
    case "json":
      return html`<${Raw} ...${shown} />`;
    default:
      return html`<${Output} ...${shown} />`;
  }
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Output({ execution }) {
  const isOver = isEnded(execution.status);
  const load = useLoad((signal) => api().get(`/executions/${encodeURIComponent(execution.id)}`, { omit: "params,runState" }, signal), [execution.id, execution.status, execution.endedAt]);
  const output = isOver ? load.data?.output : null;
  const isWhole = !isOver || load.data !== undefined || load.error !== undefined;
  const text = useCalm(output?.report?.text ?? output?.text ?? execution.text, !isOver);
  return html`<div class="stack">
    ${text ? html`<${Markdown} text=${text} />` : html`<${Empty} icon="clock" title=${isOver ? "No output" : "Nothing written yet"} />`}
    ${output?.data !== null && output?.data !== undefined && html`<section class="stack-2"><h3>Data</h3><${Json} value=${output.data} label="Output data" /></section>`}
    ${output?.report?.specialists?.length > 0 && html`<${Specialists} report=${output.report} />`}
    ${isWhole && execution.check && html`<${Dimensions} check=${execution.check} />`}
  </div>`;
}

/** @param {{ report: any }} props */
function Specialists({ report }) {
  return html`<section class="stack-2">
    <h3>Specialists</h3>
    <ul class="lines">
      ${report.specialists.map((/** @type {any} */ one) => html`<li><button class="linkish clip" onClick=${() => setQuery({ at: one.executionId, event: null })}>${agentName(one.agentId)}</button><span class="number">${score(one.qualityScore)}</span><${Status} status=${one.reviewStatus === "pending" ? one.status : one.reviewStatus} /></li>`)}
    </ul>
    ${report.gates?.length > 0 && html`<h3>Gates</h3><ul class="lines">${report.gates.map((/** @type {any} */ gate) => html`<li><span class="clip">${gate.name}</span><span class="number">${gate.score === null ? "–" : gate.score.toFixed(2)} <small>of ${gate.threshold}</small></span><${Status} status=${gate.passed ? "approved" : "rejected"} iconOnly /></li>`)}</ul>`}
  </section>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Prompts({ execution }) {
  return html`<div class="stack">
    <section class="stack-2"><h3>Task</h3><${Markdown} text=${execution.prompt} /></section>
    ${may("admin") && isEnded(execution.status) && html`<${SentPrompts} execution=${execution} />`}
  </div>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function SentPrompts({ execution }) {
  const load = useLoad((signal) => api().get(`/executions/${encodeURIComponent(execution.id)}/prompts`, undefined, signal), [execution.id, execution.endedAt]);
  return html`<${Loaded} load=${load}>
    ${(/** @type {any} */ shown) => shown.calls.map(
      (/** @type {any} */ call) => html`<details class="fold-out"><summary>${call.purpose}<small> · ${call.calls} ${call.calls === 1 ? "call" : "calls"} · ${call.source}</small></summary>
        <div class="stack-2">${call.messages.map((/** @type {any} */ message) => html`<div><span class="meta">${message.role}</span><pre class="code-block" tabindex="0">${typeof message.content === "string" ? message.content : JSON.stringify(message, null, 2)}</pre></div>`)}</div>
      </details>`,
    )}
  <//>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Tools({ execution }) {
  const [limit, setLimit] = useState(MAX_ROWS);
  if (execution.tools.length === 0) return html`<${Empty} icon="tool" title="No tools were called" />`;
  const shown = execution.tools.slice(-limit);
  return html`<div class="stack">
    <${Earlier} shown=${shown.length} all=${execution.tools.length} onMore=${() => setLimit(limit * 4)} />
    ${shown.map(
      (tool) => html`<details class="fold-out" key=${tool.id}>
        <summary><span class=${tool.failed ? "bad-text" : ""}>${tool.name}</span><small> · ${tool.end === null ? "running" : duration(tool.durationMs ?? tool.end - tool.start)}${tool.failed ? " · failed" : ""}</small></summary>
        <div class="stack-2">
          <span class="meta">Input</span><${Json} value=${tool.input} label=${`Input of ${tool.name}`} />
          ${tool.editedInput && html`<span class="meta">Input that a person approved</span><${Json} value=${tool.editedInput} label=${`Edited input of ${tool.name}`} />`}
          ${tool.end !== null && html`<span class="meta">Output</span><${Json} value=${tool.output} label=${`Output of ${tool.name}`} />`}
          ${tool.console?.length ? html`<span class="meta">Console</span><pre class="code-block" tabindex="0">${tool.console.join("\n")}</pre>` : null}
        </div>
      </details>`,
    )}
  </div>`;
}

/**
 * Says that only the latest of many rows are shown, and shows more.
 *
 * @param {{ shown: number, all: number, onMore: () => void }} props
 */
function Earlier({ shown, all, onMore }) {
  if (shown >= all) return null;
  return html`<div class="actions"><span class="meta number">The latest ${count(shown)} of ${count(all)}</span><button class="button push" onClick=${onMore}>Show earlier ones</button></div>`;
}

/** @param {{ check: any }} props */
function Dimensions({ check }) {
  return html`<section class="stack-2">
    <h3>Quality <small>· ${check.score === null ? "not scored" : `${Math.round(check.score * 100)} of 100`}</small></h3>
    <div class="dimensions">
      ${Object.entries(check.dimensions ?? {}).map(([name, value]) => html`<span>${name[0].toUpperCase() + name.slice(1)}</span><${Meter} label=${name} value=${value} /><b class="number">${Number(value).toFixed(2)}</b>`)}
    </div>
  </section>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Quality({ execution }) {
  const { check, reviews } = execution;
  if (!check && reviews.length === 0) return html`<${Empty} icon="quality" title="Not judged yet" />`;
  return html`<div class="stack">
    ${check && html`<${Dimensions} check=${check} />
      <p class="muted">${check.gate?.passed ? "Passed" : "Did not pass"} the ${check.gate?.name} gate${check.gate?.threshold !== undefined ? ` (${check.gate.threshold})` : ""}${check.model ? `, judged by ${check.model}` : ""}.</p>
      ${check.gate?.issues?.length ? html`<ul class="issues">${check.gate.issues.map((/** @type {string} */ issue) => html`<li>${issue}</li>`)}</ul>` : null}
      ${check.reasoning && html`<${Markdown} text=${check.reasoning} />`}`}
    ${reviews.length > 0 && html`<section class="stack-2"><h3>Reviews</h3>
      ${reviews.map((review) => html`<div class="review"><${Status} status=${review.status} /><span class="meta">${review.reviewer?.name ?? agentName(review.reviewedBy)} · ${fullTime(review.timestamp)}</span>${review.notes && html`<${Markdown} text=${review.notes} />`}</div>`)}
    </section>`}
  </div>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Cost({ execution }) {
  const { calls, spent } = execution;
  const [limit, setLimit] = useState(MAX_ROWS);
  if (calls.length === 0) return html`<${Empty} icon="usage" title="No model calls yet" />`;
  return html`<div class="stack">
    <dl class="facts">
      <div><dt>Calls</dt><dd>${count(spent.calls)}<small>${spent.cached ? ` · ${spent.cached} cached` : ""}</small></dd></div>
      <div><dt>Input</dt><dd>${count(spent.input)}</dd></div>
      <div><dt>Output</dt><dd>${count(spent.output)}</dd></div>
      <div><dt>Cost</dt><dd>${dollars(spent.costUsd)}</dd></div>
    </dl>
    <${Earlier} shown=${Math.min(limit, calls.length)} all=${calls.length} onMore=${() => setLimit(limit * 4)} />
    <div class="table-frame" role="region" aria-label="Model calls" tabindex="0"><table class="table">
      <thead><tr><th scope="col">Purpose</th><th scope="col" class="right">In</th><th scope="col" class="right">Out</th><th scope="col" class="right">Time</th><th scope="col" class="right">Cost</th></tr></thead>
      <tbody>${calls.slice(-limit).map((row) => html`<tr key=${row.callId}><td>${row.purpose}${row.cached ? html` <span class="tag">CACHED</span>` : ""}${row.outcome === "error" ? html` <span class="tag warn">${row.errorCode}</span>` : ""}<div class="meta">${row.model}</div></td><td class="right">${count(row.inputTokens)}</td><td class="right">${count(row.outputTokens)}</td><td class="right">${duration(row.durationMs)}</td><td class="right">${dollars(row.costUsd)}</td></tr>`)}</tbody>
    </table></div>
  </div>`;
}

/** @param {{ execution: ExecutionState, version?: number }} props */
function Raw({ execution }) {
  const load = useLoad((signal) => api().get(`/executions/${encodeURIComponent(execution.id)}`, undefined, signal), [execution.id, execution.status]);
  return html`<${Loaded} load=${load}>${(/** @type {any} */ data) => html`<${Json} value=${data} label="Execution" />`}<//>`;
}
