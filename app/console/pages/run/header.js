/** The head of a run's page: its name, its state, what can be done with it, and its facts in one line. */
import { Icon } from "../../components/icon.js";
import { DepartmentMark } from "../../components/mark.js";
import { isEnded, Status } from "../../components/status.js";
import { toast, toastError } from "../../components/toast.js";
import { copy, readCommand } from "../../lib/clipboard.js";
import { count, counted, dollars, duration, firstLine, fullTime, percent, score, time } from "../../lib/format.js";
import { html, useState } from "../../lib/html.js";
import { agentName, agents, departmentName } from "../../lib/names.js";
import { Link, navigate } from "../../lib/router.js";
import { api, may } from "../../lib/session.js";
import { HoldSwitch } from "./archive.js";
import { ReviewDialog } from "./review-dialog.js";

/**
 * @param {{ run: import("../../model/run-state.js").RunState, root: any, selected: import("../../model/run-state.js").ExecutionState, version: number, now: number, refresh: () => void }} props
 */
export function Header({ run, root, selected, version, now, refresh }) {
  const [isReviewing, setReviewing] = useState(false);
  const { status } = run.root;
  const path = `/api/v1/executions/${root.executionId}`;
  return html`<header class="run-head">
    <div class="crumbs">
      <${Link} to="/runs">Runs<//><span aria-hidden="true">/</span><span class="clip number">${root.executionId}</span>
      <button class="button plain" onClick=${() => copy(root.executionId, "Id")}><${Icon} name="copy" label="Copy id" /></button>
    </div>
    <div class="run-title">
      <${DepartmentMark} slug=${root.department} />
      <h1 class="clip" title=${firstLine(root.prompt, 500)}>${firstLine(root.prompt, 120)}</h1>
      <${Status} status=${status} pill />
      ${run.approvals.length > 0 && html`<span class="status warn pill"><${Icon} name="pause" /><span>Waiting for approval</span></span>`}
      ${run.root.reviewStatus !== "pending" && html`<${Status} status=${run.root.reviewStatus} pill />`}
      ${root.archivedAt && html`<span class="status idle pill"><${Icon} name="inbox" /><span>Archived</span></span>`}
      ${root.legalHold && html`<span class="status warn pill"><${Icon} name="pause" /><span>Under legal hold</span></span>`}
      <div class="actions push">
        <button class="button" onClick=${() => copy(readCommand(path), "Command")}>Copy as curl</button>
        ${isEnded(status) && html`<button class="button" onClick=${() => navigate(`/compare?left=${encodeURIComponent(root.executionId)}`)}>Compare</button>`}
        ${may("admin") && html`<${HoldSwitch} root=${root} refresh=${refresh} />`}
        ${may("runner") && !root.archivedAt && html`<${Actions} root=${root} status=${status} canReview=${selected.status === "completed"} onReview=${() => setReviewing(true)} refresh=${refresh} />`}
      </div>
    </div>
    <${Facts} run=${run} root=${root} version=${version} now=${now} />
    ${isReviewing && html`<${ReviewDialog} execution=${{ executionId: selected.id }} name=${selected.name || agentName(selected.agentId)} onClose=${() => setReviewing(false)} onDone=${refresh} />`}
  </header>`;
}

/**
 * What can be done now. Nothing needs a second question: a cancelled run can be retried from its last saved step.
 *
 * @param {{ root: any, status: string, canReview: boolean, onReview: () => void, refresh: () => void }} props
 */
function Actions({ root, status, canReview, onReview, refresh }) {
  const run = api().run(root.executionId);
  const cancel = () => run.cancel().then(() => toast("The run is being cancelled.")).then(refresh).catch(toastError);
  const retry = (/** @type {"checkpoint" | "start"} */ from) => run.retry(from).then((/** @type {any} */ again) => navigate(`/runs/${again.executionId}`)).catch(toastError);
  if (!isEnded(status)) return html`<button class="button danger" onClick=${cancel}>Cancel</button>`;
  return html`${status !== "completed" && html`<button class="button" title="Start over without cached answers" onClick=${() => retry("start")}>Start over</button>
      <button class="button primary" title="Continue from the last saved step" onClick=${() => retry("checkpoint")}>Retry</button>`}
    ${canReview && html`<button class="button primary" onClick=${onReview}>Review</button>`}`;
}

/** @param {{ run: import("../../model/run-state.js").RunState, root: any, version: number, now: number }} props */
function Facts({ run, root, now }) {
  const { spent } = run;
  const members = [...run.executions.values()];
  const scores = members.map((one) => one.score).filter((one) => one !== null);
  const threshold = agents.value.get(run.root.agentId)?.qualityThreshold;
  const shownScore = run.root.score ?? (scores.length ? scores.reduce((a, b) => a + b, 0) / scores.length : null);
  const elapsed = (run.end ?? now) - run.start;
  return html`<dl class="facts">
    <div>
      <dt>${root.kind === "agent" ? "Agent" : "Department"}</dt>
      <dd>${root.kind === "agent" ? agentName(root.agent) : departmentName(root.department)}<small>${members.length > 1 ? ` · ${members.length} executions` : ""}</small></dd>
    </div>
    <div><dt>Elapsed</dt><dd>${duration(elapsed)}</dd></div>
    <div><dt>Tokens</dt><dd>${count(spent.input)} <small>in</small> · ${count(spent.output)} <small>out</small></dd></div>
    <div>
      <dt>Cost</dt>
      <dd>${dollars(spent.costUsd)}<small>${spent.cached ? ` · ${dollars(spent.savedUsd)} saved by ${spent.cached} cached` : ` · ${counted(spent.calls, "call")}`}</small></dd>
    </div>
    <div><dt>${run.end === null ? "Quality so far" : "Quality"}</dt><dd>${score(shownScore)}${threshold !== undefined && html`<small> · threshold ${Math.round(threshold)}</small>`}</dd></div>
    ${run.root.check?.gate && html`<div><dt>Gate</dt><dd>${run.root.check.gate.passed ? "Passed" : "Not passed"} <small>${percent(run.root.check.score)} of ${percent(run.root.check.gate.threshold)}</small></dd></div>`}
    <div><dt>Started by</dt><dd>${root.startedBy?.name ?? "–"} <small title=${fullTime(root.createdAt)}>· ${time(root.createdAt).slice(0, 8)}</small></dd></div>
    ${root.retryOf && html`<div><dt>Retry of</dt><dd><${Link} to=${`/runs/${root.retryOf}`}>${root.retryOf.slice(-9)}<//></dd></div>`}
  </dl>`;
}
