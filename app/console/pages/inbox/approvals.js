/** The tool calls that wait for a person's decision, each with the run that asks for it. */
import { Approval } from "../../components/approval.js";
import { Markdown } from "../../components/markdown.js";
import { DepartmentMark } from "../../components/mark.js";
import { Empty, Loaded } from "../../components/states.js";
import { ago, count } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { readWaiting } from "../../lib/inbox.js";
import { useLoad } from "../../lib/load.js";
import { agentName } from "../../lib/names.js";
import { Link } from "../../lib/router.js";
import { api } from "../../lib/session.js";

const EVERY_MS = 5_000;

/** The pending approvals, the oldest first, with more on request. */
export function Approvals() {
  const [pages, setPages] = useState(1);
  const load = useLoad((signal) => readWaiting("approval", pages, signal), [pages], { everyMs: EVERY_MS });
  return html`<${Loaded} load=${load}>
    ${(/** @type {any} */ { total, items, hasMore }) =>
      items.length === 0
        ? html`<div class="card"><${Empty} icon="check" title="No calls are waiting for you"><p>Tool calls that require approval appear here.</p><//></div>`
        : html`<${Waiting} waiting=${items} total=${total} onMore=${hasMore ? () => setPages(pages + 1) : null} onDone=${load.reload} />`}
  <//>`;
}

/** @param {{ waiting: any[], total: number, onMore: (() => void) | null, onDone: () => void }} props */
function Waiting({ waiting, total, onMore, onDone }) {
  const [id, setId] = useState(waiting[0].id);
  const place = Math.max(0, waiting.findIndex((one) => one.id === id));
  const current = waiting[place];

  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
      const step = { j: 1, k: -1 }[event.key];
      if (!step) return;
      setId(waiting[Math.max(0, Math.min(waiting.length - 1, place + step))].id);
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [waiting, place]);

  return html`<div class="inbox">
    <div class="stack-2">
    <ul class="card flush inbox-list" aria-label="Waiting approvals">
      ${waiting.map(
        (one) => html`<li key=${one.id}><button aria-current=${one === current ? "true" : undefined} onClick=${() => setId(one.id)}>
          <span class="top"><${DepartmentMark} slug=${one.department} small /><span class="clip">${one.toolName}</span></span>
          <span class="meta">${agentName(one.agent)} · ${ago(one.requestedAt)}</span>
        </button></li>`,
      )}
    </ul>
    <div class="actions"><span class="meta number">${count(waiting.length)} of ${count(total)}, the oldest first</span>${onMore && html`<button class="button push" onClick=${onMore}>Show more</button>`}</div>
    </div>
    <section class="card" aria-label="Approval">
      <div class="card-head">
        <${DepartmentMark} slug=${current.department} />
        <div class="grow-1"><h2 class="clip">${current.toolName}</h2><div class="meta">${agentName(current.agent)} asks to call this tool</div></div>
        <${Link} to=${`/runs/${current.rootExecutionId}`} class="button">Open run<//>
      </div>
      <${Approval} key=${current.id} approval=${current} onDone=${onDone} />
      <${Context} key=${current.executionId} approval=${current} />
    </section>
  </div>`;
}

/** What the run is about, and what the agent was asked to do. @param {{ approval: any }} props */
function Context({ approval }) {
  const load = useLoad(
    async (signal) => {
      const read = (/** @type {string} */ id) => api().get(`/executions/${encodeURIComponent(id)}`, { omit: "params,output,runState" }, signal);
      const own = await read(approval.executionId);
      return { own, root: approval.rootExecutionId === approval.executionId ? own : await read(approval.rootExecutionId) };
    },
    [approval.executionId],
  );
  return html`<${Loaded} load=${load} lines=${3}>
    ${(/** @type {any} */ { own, root }) => html`
      <h3>Request of the run</h3><${Markdown} text=${root.prompt} />
      ${own !== root && html`<h3>Task of ${agentName(approval.agent)}</h3><${Markdown} text=${own.prompt} />`}`}
  <//>`;
}
