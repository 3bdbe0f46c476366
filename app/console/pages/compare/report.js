/** What differs between two runs: figures, prompt, output and specialists. */
import { Diff } from "../../components/diff.js";
import { DepartmentMark } from "../../components/mark.js";
import { Empty, Loaded } from "../../components/states.js";
import { Status, statusWord } from "../../components/status.js";
import { count, dollars, duration, firstLine, fullTime, json, score } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { agentName, departmentName } from "../../lib/names.js";
import { Link, route, setQuery } from "../../lib/router.js";
import { api } from "../../lib/session.js";
import { differenceOf, outputText, pairsOf } from "./pairs.js";

/** @typedef {import("./index.js").ComparedRun} ComparedRun */
/** @typedef {{ title: string, of: (run: any) => number | null | undefined, show: (value: any) => string, better?: "more" | "less" }} Figure */

/** @type {Figure[]} */
const FIGURES = [
  { title: "Score", of: (run) => run.qualityScore, show: score, better: "more" },
  { title: "Gate", of: (run) => run.qualityGate?.score, show: (value) => (value ?? null) === null ? "–" : value.toFixed(2), better: "more" },
  { title: "Cost", of: (run) => (run.total ? run.total.costUsd : run.costUsd), show: dollars, better: "less" },
  { title: "Input tokens", of: (run) => (run.total?.tokenUsage ?? run.tokenUsage)?.input, show: count, better: "less" },
  { title: "Output tokens", of: (run) => (run.total?.tokenUsage ?? run.tokenUsage)?.output, show: count, better: "less" },
  { title: "Duration", of: (run) => run.executionTime, show: duration, better: "less" },
  { title: "Executions", of: (run) => run.total?.executions, show: count },
  { title: "Revisions", of: (run) => run.retryCount, show: count },
  { title: "Retried calls", of: (run) => run.retries, show: count, better: "less" },
];

/** @param {{ left: ComparedRun, right: ComparedRun }} props */
export function Report({ left, right }) {
  return html`<div class="pair">
      <${RunCard} run=${left.root} side="Left" />
      <${RunCard} run=${right.root} side="Right" />
    </div>
    <${Figures} left=${left.root} right=${right.root} />
    <${Specialists} left=${left} right=${right} />
    <section class="stack-2" aria-label="Output"><h2>Output</h2>
      <${Texts} label="Difference of the outputs" left=${outputText(left.root)} right=${outputText(right.root)} />
    </section>
    <section class="stack-2" aria-label="Prompt"><h2>Prompt</h2>
      ${left.root.prompt === right.root.prompt ? html`<p class="note ok">Both runs had the same prompt.</p>` : html`<${Texts} label="Difference of the prompts" left=${left.root.prompt} right=${right.root.prompt} />`}
      ${json(left.root.params) !== json(right.root.params) && html`<h3>Parameters</h3><${Texts} label="Difference of the parameters" left=${json(left.root.params)} right=${json(right.root.params)} />`}
    </section>`;
}

/** @param {{ run: any, side: string }} props */
function RunCard({ run, side }) {
  const who = run.kind === "agent" ? agentName(run.agent) : run.kind === "orchestration" ? "Orchestration" : departmentName(run.department);
  return html`<section class="card" aria-label=${`${side} run`}>
    <div class="card-head">
      <${DepartmentMark} slug=${run.department} />
      <div class="grow-1"><h2 class="clip" title=${firstLine(run.prompt, 500)}>${firstLine(run.prompt) || run.executionId}</h2>
        <div class="meta">${who} · ${fullTime(run.createdAt)}${run.startedBy ? ` · ${run.startedBy.name}` : ""}</div></div>
      <${Status} status=${run.status} pill />
    </div>
    <div class="actions">
      ${run.reviewStatus !== "pending" && html`<${Status} status=${run.reviewStatus} />`}
      <span class="meta number clip">${run.executionId}</span>
      <${Link} to=${`/runs/${encodeURIComponent(run.executionId)}`} class="button push">Open the ${side.toLowerCase()} run<//>
      <button class="button" onClick=${() => setQuery({ [side.toLowerCase()]: null })}>Change</button>
    </div>
    ${run.error && html`<p class="note bad"><span><b>${run.error.code}</b> ${run.error.message}</span></p>`}
  </section>`;
}

/** @param {{ left: any, right: any }} props */
function Figures({ left, right }) {
  return html`<div class="table-frame" role="region" aria-label="Figures" tabindex="0"><table class="table compared">
    <thead><tr><th scope="col">Figure</th><th scope="col" class="right">Left</th><th scope="col" class="right">Right</th><th scope="col" class="right">Difference</th></tr></thead>
    <tbody>
      <tr><th scope="row">Status</th><td class="right">${statusWord(left.status)}</td><td class="right">${statusWord(right.status)}</td><td class="right">${left.status === right.status ? "=" : "different"}</td></tr>
      ${FIGURES.filter((figure) => figure.of(left) !== undefined || figure.of(right) !== undefined).map((figure) => {
        const { text, tone } = differenceOf(figure.of(left), figure.of(right), figure.show, figure.better);
        return html`<tr key=${figure.title}><th scope="row">${figure.title}</th><td class="right">${figure.show(figure.of(left))}</td><td class="right">${figure.show(figure.of(right))}</td><td class="right"><span class=${`delta ${tone}`}>${text}</span></td></tr>`;
      })}
    </tbody>
  </table></div>`;
}

/** @param {{ left: ComparedRun, right: ComparedRun }} props */
function Specialists({ left, right }) {
  const pairs = pairsOf(left.members, right.members);
  const chosen = route.value.query.get("specialist");
  const pair = pairs.find((one) => one.key === chosen);
  if (pairs.length === 0) return null;
  return html`<section class="stack-2" aria-label="Specialists"><h2>Specialists</h2>
    <div class="table-frame" role="region" aria-label="Specialists, scrollable" tabindex="0"><table class="table compared">
      <thead><tr><th scope="col">Agent</th><th scope="col" class="right">Score</th><th scope="col" class="right optional">Review</th><th scope="col" class="right">Cost</th><th scope="col" class="right optional">Duration</th><th scope="col" class="right"><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${pairs.map((one) => html`<tr key=${one.key} aria-selected=${one === pair ? "true" : undefined}>
        <th scope="row">${agentName(one.agent)}${one.number > 1 ? ` (${one.number})` : ""}${!one.left ? html` <span class="tag">ONLY RIGHT</span>` : ""}${!one.right ? html` <span class="tag">ONLY LEFT</span>` : ""}</th>
        <td class="right">${both(one, (run) => score(run.qualityScore))}</td>
        <td class="right optional">${both(one, (run) => (run.reviewStatus === "pending" ? statusWord(run.status) : statusWord(run.reviewStatus)))}</td>
        <td class="right">${both(one, (run) => dollars(run.costUsd))}</td>
        <td class="right optional">${both(one, (run) => duration(run.executionTime))}</td>
        <td class="right"><button class="button" aria-pressed=${one === pair ? "true" : "false"} aria-label=${`Compare the outputs of ${agentName(one.agent)}`} onClick=${() => setQuery({ specialist: one === pair ? null : one.key })}>Outputs</button></td>
      </tr>`)}</tbody>
    </table></div>
    ${pair && html`<${SpecialistOutputs} key=${pair.key} pair=${pair} />`}
  </section>`;
}

/** @param {import("./pairs.js").Pair} pair @param {(run: any) => string} show */
const both = (pair, show) => html`${pair.left ? show(pair.left) : "–"} <span class="meta" aria-hidden="true">→</span><span class="hidden"> and </span> ${pair.right ? show(pair.right) : "–"}`;

/** @param {{ pair: import("./pairs.js").Pair }} props */
function SpecialistOutputs({ pair }) {
  const load = useLoad(
    (signal) => Promise.all([pair.left, pair.right].map((one) => (one ? api().get(`/executions/${encodeURIComponent(one.executionId)}`, { omit: "params,runState" }, signal) : null))),
    [pair.left?.executionId, pair.right?.executionId],
  );
  return html`<${Loaded} load=${load}>${(/** @type {any[]} */ [left, right]) => html`<${Texts} label=${`Difference of the outputs of ${agentName(pair.agent)}`} left=${outputText(left)} right=${outputText(right)} />`}<//>`;
}

/** @param {{ label: string, left: string, right: string }} props */
function Texts({ label, left, right }) {
  if (!left && !right) return html`<div class="card"><${Empty} icon="clock" title="Neither run has a text here" /></div>`;
  return html`<${Diff} label=${label} left=${left} right=${right} leftName="Left" rightName="Right" />`;
}
