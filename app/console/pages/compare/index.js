/** `/compare?left={executionId}&right={executionId}`: two runs beside each other, at an address to share. */
import { Icon } from "../../components/icon.js";
import { Empty, Loaded } from "../../components/states.js";
import { html } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { readAll } from "../../lib/names.js";
import { route, setQuery } from "../../lib/router.js";
import { api } from "../../lib/session.js";
import { Chooser } from "./chooser.js";
import { Report } from "./report.js";

/** @typedef {{ root: any, members: any[] }} ComparedRun */

/**
 * Reads a run, or a part of one, with the executions below it.
 *
 * @param {string} executionId
 * @param {AbortSignal} signal
 * @returns {Promise<ComparedRun>}
 */
async function readRun(executionId, signal) {
  const root = await api().get(`/executions/${encodeURIComponent(executionId)}`, { omit: "runState" }, signal);
  const members = await readAll("/executions", { rootExecutionId: root.rootExecutionId, sort: "createdAt" });
  const isRun = root.executionId === root.rootExecutionId;
  return { root, members: members.filter((one) => (isRun ? one.executionId !== root.executionId : one.parentExecutionId === root.executionId)) };
}

export default function ComparePage() {
  const { query } = route.value;
  const left = query.get("left") ?? "";
  const right = query.get("right") ?? "";
  return html`<div class="page">
    <div class="page-head">
      <h1>Compare two runs</h1>
      ${left && right && html`<button class="button push" onClick=${() => setQuery({ left: right, right: left })}><${Icon} name="swap" />Swap sides</button>`}
    </div>
    ${left && right ? html`<${Both} key=${`${left} ${right}`} left=${left} right=${right} />` : html`<${Choice} known=${left || right} missing=${left ? "right" : "left"} />`}
  </div>`;
}

/** @param {{ left: string, right: string }} props */
function Both({ left, right }) {
  const load = useLoad((signal) => Promise.all([readRun(left, signal), readRun(right, signal)]), [left, right]);
  return html`<${Loaded} load=${load} lines=${9}>${(/** @type {[ComparedRun, ComparedRun]} */ runs) => html`<${Report} left=${runs[0]} right=${runs[1]} />`}<//>`;
}

/** @param {{ known: string, missing: "left" | "right" }} props */
function Choice({ known, missing }) {
  const load = useLoad(async (signal) => (known ? api().get(`/executions/${encodeURIComponent(known)}`, { omit: "params,output,runState" }, signal) : null), [known]);
  return html`<${Loaded} load=${load}>${(/** @type {any} */ run) =>
    html`${!run && html`<div class="card"><${Empty} icon="compare" title="Choose the first run"><p>Then choose the run to compare it with.</p><//></div>`}
      <${Chooser} first=${run} onChoose=${(/** @type {string} */ id) => setQuery({ [missing]: id })} />`}<//>`;
}
