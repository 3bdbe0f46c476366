/** What the service knows about an entry besides its form. */
import { Icon } from "../../components/icon.js";
import { DepartmentMark } from "../../components/mark.js";
import { count, duration, fullTime, percent } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { agents, departmentName } from "../../lib/names.js";
import { Link } from "../../lib/router.js";
import { may } from "../../lib/session.js";

/** @param {{ kind: import("./kinds.js").Kind, entry: any }} props */
export function Facts({ kind, entry }) {
  const slug = kind.id === "departments" ? entry.slug : entry.department;
  const run = { departments: `/start?department=${entry.slug}`, agents: `/start?agent=${entry.agentId}` }[kind.id];
  return html`<section class="card" aria-label="About">
    <div class="details-head">${kind.id === "tools" ? html`<span class="mark"><${Icon} name="tool" /></span>` : html`<${DepartmentMark} slug=${slug} />`}<div class="grow-1"><h2 class="clip">${entry[kind.name]}</h2><div class="meta">${entry[kind.key]}</div></div></div>
    <p class="muted">${entry.description}</p>
    <dl class="kv">
      <dt>State</dt><dd>${entry.state}</dd>
      ${kind.id === "agents" && html`<dt>Department</dt><dd>${departmentName(entry.department)}</dd>`}
      <dt>${kind.id === "tools" ? "Calls" : "Executions"}</dt><dd class="number">${count(entry.totalExecutions)}</dd>
      ${"successRate" in entry && html`<dt>Completed</dt><dd class="number">${entry.successRate === null ? "–" : percent(entry.successRate / 100)}</dd>`}
      ${"averageExecutionTime" in entry && html`<dt>Average time</dt><dd class="number">${duration(entry.averageExecutionTime)}</dd>`}
      <dt>Changed</dt><dd>${fullTime(entry.updatedAt)}</dd>
    </dl>
    ${run && may("runner") && entry.isActive && html`<${Link} to=${run} class="button">Start a run<//>`}
    ${kind.id === "departments" && html`<${Members} slug=${entry.slug} />`}
  </section>`;
}

/** @param {{ slug: string }} props */
function Members({ slug }) {
  const members = [...agents.value.values()].filter((one) => one.department === slug).sort((a, b) => Number(b.isDepartmentHead) - Number(a.isDepartmentHead));
  return html`<h3>Agents</h3>
    <ul class="lines">${members.map((one) => html`<li key=${one.agentId}><${Link} class="clip" to=${`/catalog/agents/${one.agentId}`}>${one.name}<//><span></span>${one.isDepartmentHead ? html`<span class="tag">HEAD</span>` : html`<span></span>`}</li>`)}</ul>`;
}
