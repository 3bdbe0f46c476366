/** The reviews that wait for a person, one decision at a time; every key of the keyboard works too. */
import { Icon } from "../../components/icon.js";
import { Markdown } from "../../components/markdown.js";
import { DepartmentMark } from "../../components/mark.js";
import { Empty, Loaded } from "../../components/states.js";
import { Status } from "../../components/status.js";
import { ago, count, dollars, firstLine, score } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { readWaiting } from "../../lib/inbox.js";
import { useLoad } from "../../lib/load.js";
import { agentName, departmentName } from "../../lib/names.js";
import { Link } from "../../lib/router.js";
import { api, may } from "../../lib/session.js";
import { ReviewDialog } from "../run/review-dialog.js";

const EVERY_MS = 10_000;
const DECISIONS = /** @type {Record<string, string>} */ ({ a: "approved", e: "revision-needed", d: "rejected" });

/** The runs that wait, the latest first, with more on request. */
export function Reviews() {
  const [pages, setPages] = useState(1);
  const load = useLoad((signal) => readWaiting("review", pages, signal), [pages], { everyMs: EVERY_MS });
  return html`<${Loaded} load=${load}>
    ${(/** @type {any} */ { total, items, hasMore }) =>
      items.length === 0
        ? html`<div class="card"><${Empty} icon="check" title="Nothing is waiting for you"><p>Finished runs appear here until someone approves or rejects them.</p><//></div>`
        : html`<${Waiting} waiting=${items} total=${total} onMore=${hasMore ? () => setPages(pages + 1) : null} onDone=${load.reload} />`}
  <//>`;
}

/** @param {{ waiting: any[], total: number, onMore: (() => void) | null, onDone: () => void }} props */
function Waiting({ waiting, total, onMore, onDone }) {
  const [id, setId] = useState(waiting[0].executionId);
  const [decision, setDecision] = useState("");
  const place = Math.max(0, waiting.findIndex((one) => one.executionId === id));
  const current = waiting[place];

  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      if (decision || event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
      const step = { j: 1, k: -1 }[event.key];
      if (step) setId(waiting[Math.max(0, Math.min(waiting.length - 1, place + step))].executionId);
      else if (DECISIONS[event.key] && may("runner")) setDecision(DECISIONS[event.key]);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [waiting, place, decision]);

  return html`<div class="inbox">
    <div class="stack-2">
    <ul class="card flush inbox-list" aria-label="Waiting reviews">
      ${waiting.map(
        (one) => html`<li key=${one.executionId}><button aria-current=${one === current ? "true" : undefined} onClick=${() => setId(one.executionId)}>
          <span class="top"><${DepartmentMark} slug=${one.department} small /><span class="clip">${firstLine(one.prompt)}</span></span>
          <span class="meta">${one.kind === "agent" ? agentName(one.agent) : departmentName(one.department)} · score ${score(one.qualityScore)} · ${ago(one.completedAt)}</span>
        </button></li>`,
      )}
    </ul>
    <div class="actions"><span class="meta number">${count(waiting.length)} of ${count(total)}, the latest first</span>${onMore && html`<button class="button push" onClick=${onMore}>Show more</button>`}</div>
    </div>
    <section class="card" aria-label="Review">
      <div class="card-head">
        <${DepartmentMark} slug=${current.department} />
        <div class="grow-1"><h2 class="clip">${firstLine(current.prompt)}</h2><div class="meta">${current.kind} · score ${score(current.qualityScore)} · ${dollars(current.total?.costUsd ?? current.costUsd)}</div></div>
        ${current.reviewStatus !== "pending" && html`<${Status} status=${current.reviewStatus} pill />`}
        <${Link} to=${`/runs/${current.executionId}`} class="button">Open run<//>
      </div>
      ${may("runner") && html`<div class="actions">
        <button class="button primary" onClick=${() => setDecision("approved")}>Approve <kbd aria-hidden="true">a</kbd></button>
        <button class="button" onClick=${() => setDecision("revision-needed")}>Request a revision <kbd aria-hidden="true">e</kbd></button>
        <button class="button danger" onClick=${() => setDecision("rejected")}>Reject <kbd aria-hidden="true">d</kbd></button>
        <span class="meta push"><kbd aria-hidden="true">j</kbd> <kbd aria-hidden="true">k</kbd> next, previous</span>
      </div>`}
      <${Work} key=${current.executionId} execution=${current} />
    </section>
    ${decision && html`<${ReviewDialog} execution=${current} initial=${decision} onClose=${() => setDecision("")} onDone=${onDone} />`}
  </div>`;
}

/** @param {{ execution: any }} props */
function Work({ execution }) {
  const load = useLoad((signal) => api().get(`/executions/${execution.executionId}`, { omit: "params,runState" }, signal), [execution.executionId]);
  return html`<${Loaded} load=${load}>
    ${(/** @type {any} */ data) => {
      const text = data.output?.report?.text ?? data.output?.text;
      return html`${data.reviewNotes && html`<div class="note warn"><${Icon} name="back" /><${Markdown} text=${data.reviewNotes} /></div>`}
        ${text ? html`<${Markdown} text=${text} />` : html`<${Empty} icon="clock" title="No output" />`}`;
    }}
  <//>`;
}
