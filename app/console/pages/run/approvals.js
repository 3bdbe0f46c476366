/** The calls of an execution, or of a whole run, that wait for a person: what needs a decision comes first. */
import { Approval } from "../../components/approval.js";
import { Loaded } from "../../components/states.js";
import { html } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { api } from "../../lib/session.js";

/** @typedef {import("../../model/run-state.js").RunState} RunState */
/** @typedef {import("../../model/run-state.js").ExecutionState} ExecutionState */

const MOST = 20;

/**
 * The ids of the approvals that an execution waits for, separated by spaces; for the root those of the whole run.
 *
 * @param {RunState} run
 * @param {ExecutionState} execution
 */
export const waitingIn = (run, execution) => (execution.id === run.rootId ? run.approvals : execution.approvals).join(" ");

/** @param {{ run: RunState, execution: ExecutionState, waiting: string }} props */
export function Approvals({ run, execution, waiting }) {
  const place = execution.id === run.rootId ? { rootExecutionId: run.rootId } : { executionId: execution.id };
  const load = useLoad(async (signal) => (waiting ? api().get("/approvals", { ...place, status: "pending", sort: "requestedAt", limit: MOST }, signal) : { items: [], total: 0 }), [execution.id, waiting]);
  if (!waiting) return null;
  return html`<section class="stack-2" aria-label="Approvals">
    <${Loaded} load=${load} lines=${3}>
      ${(/** @type {any} */ page) => html`<h3>${page.total === 1 ? "A call is waiting for you" : `${page.total} calls are waiting for you`}</h3>
        ${page.items.map((/** @type {any} */ one) => html`<div class="card" key=${one.id}><${Approval} approval=${one} onDone=${load.reload} /></div>`)}`}
    <//>
  </section>`;
}
