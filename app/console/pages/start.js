/** Starting a run of a department, an agent, or several departments. */
import { Check, Field } from "../components/field.js";
import { Problem } from "../components/states.js";
import { html, useEffect, useState } from "../lib/html.js";
import { copy, sendCommand } from "../lib/clipboard.js";
import { agents, departments, orderedDepartments } from "../lib/names.js";
import { Link, navigate, route } from "../lib/router.js";
import { api, may, session } from "../lib/session.js";
import { parseField, useForm } from "../lib/use-form.js";

const LAST_PROJECT = "dynamic-agents-project";
const SAMPLE_PROJECT = "66f0a1b2c3d4e5f601234567";
const SAMPLE_PROMPT = "A lighthouse keeper on a dying coast discovers that the light has been guiding something other than ships. Develop a 100-page feature: beats, key scenes, dialogue sample and pacing.";
const KINDS = [["department", "Department"], ["agent", "Agent"], ["orchestration", "Orchestration"]];

/** The project that a form begins with. */
const firstProject = () => session.value?.projects?.[0] ?? localStorage.getItem(LAST_PROJECT) ?? SAMPLE_PROJECT;

export default function StartPage() {
  const { query } = route.value;
  const [kind, setKind] = useState(query.get("agent") ? "agent" : "department");
  const form = useForm({
    department: query.get("department") ?? "",
    agent: query.get("agent") ?? "",
    departments: /** @type {string[]} */ ([]),
    prompt: query.get("sample") ? SAMPLE_PROMPT : "",
    project: firstProject(),
    tags: "",
    params: "",
    outputSchema: "",
    maxRevisions: "1",
    maxCostUsd: "",
    complexity: "",
    cache: true,
    approvals: false,
  });
  const { values, set, errors } = form;

  useEffect(() => {
    const first = orderedDepartments.value.find((one) => one.slug === "story") ?? orderedDepartments.value[0];
    if (first && !values.department) set("department")(first.slug);
  }, [departments.value]);

  const body = () => {
    /** @type {any} */
    const wanted = { prompt: values.prompt, project: values.project.trim(), maxRevisions: Number(values.maxRevisions) };
    const tags = values.tags.split(",").map((/** @type {string} */ one) => one.trim()).filter(Boolean);
    if (tags.length) wanted.tags = tags;
    if (values.params.trim()) wanted.params = parseField(values.params, "params");
    if (values.outputSchema.trim()) wanted.outputSchema = parseField(values.outputSchema, "outputSchema");
    if (values.maxCostUsd) wanted.maxCostUsd = Number(values.maxCostUsd);
    if (values.complexity) wanted.complexity = values.complexity;
    if (!values.cache) wanted.cache = false;
    if (values.approvals) wanted.approvals = "all";
    if (kind === "orchestration" && values.departments.length) wanted.departments = values.departments;
    return wanted;
  };
  const target = () => (kind === "agent" ? { agent: values.agent } : kind === "department" ? { department: values.department } : {});
  const path = () => (kind === "agent" ? `/api/v1/agents/${values.agent}/runs` : kind === "department" ? `/api/v1/departments/${values.department}/runs` : "/api/v1/orchestrations");
  const start = form.submit(async () => {
    const run = await api().start({ ...target(), ...body() });
    localStorage.setItem(LAST_PROJECT, values.project.trim());
    navigate(`/runs/${run.executionId}`);
  });

  if (!may("runner")) return html`<div class="page"><h1>Start run</h1><p class="muted">This key may only read. Sign in with a key of the role runner to start runs.</p></div>`;
  return html`<div class="page">
    <div class="crumbs"><${Link} to="/runs">Runs<//><span aria-hidden="true">/</span><span>Start</span></div>
    <h1>Start run</h1>
    <form class="card start" onSubmit=${start} aria-busy=${form.isBusy} noValidate>
      <div class="chips" role="group" aria-label="Kind of run">
        ${KINDS.map(([id, title]) => html`<button type="button" class="chip" aria-pressed=${kind === id ? "true" : "false"} onClick=${() => setKind(id)}>${title}</button>`)}
      </div>
      ${kind === "department" && html`<${Field} label="Department" kind="select" value=${values.department} onInput=${set("department")} error=${errors.department}
        options=${orderedDepartments.value.map((one) => ({ value: one.slug, label: one.name }))} />`}
      ${kind === "agent" && html`<${Field} label="Agent" kind="select" value=${values.agent} onInput=${set("agent")} error=${errors.agent}
        options=${[{ value: "", label: "Choose an agent" }, ...[...agents.value.values()].filter((one) => one.isActive).map((one) => ({ value: one.agentId, label: `${one.name} · ${one.department ?? "no department"}` }))]} />`}
      ${kind === "orchestration" && html`<${DepartmentChoice} chosen=${values.departments} onChange=${set("departments")} />`}
      <${Field} label="Prompt" kind="textarea" rows="6" value=${values.prompt} onInput=${set("prompt")} error=${errors.prompt} placeholder="The task, in your words" required />
      <${Field} label="Project" value=${values.project} onInput=${set("project")} error=${errors.project} hint="The id of a CMS project: 24 hexadecimal characters." spellcheck="false" required />
      <details class="fold-out"><summary>More options</summary>
        <div class="fields">
          <${Field} label="Maximum revisions" kind="number" min="0" max="5" value=${values.maxRevisions} onInput=${set("maxRevisions")} error=${errors.maxRevisions} />
          <${Field} label="Budget in USD" kind="number" min="0" step="any" value=${values.maxCostUsd} onInput=${set("maxCostUsd")} error=${errors.maxCostUsd} hint="Empty: no limit." />
          <${Field} label="Complexity" kind="select" value=${values.complexity} onInput=${set("complexity")} error=${errors.complexity}
            options=${[{ value: "", label: "Each agent's own model" }, { value: "simple", label: "Simple" }, { value: "standard", label: "Standard" }, { value: "complex", label: "Complex" }]} />
          <${Field} label="Tags" value=${values.tags} onInput=${set("tags")} error=${errors.tags} hint="Separated by commas." />
          <${Field} wide label="Parameters" kind="json" rows="4" value=${values.params} onInput=${set("params")} error=${errors.params} hint="A JSON object, given to the agents as data." />
          <${Field} wide label="Output schema" kind="json" rows="4" value=${values.outputSchema} onInput=${set("outputSchema")} error=${errors.outputSchema} hint="A JSON Schema: the run then returns data that matches it." />
          <${Check} label="Use cached answers" checked=${values.cache} onInput=${set("cache")} />
          <${Check} label="Approve every tool call" checked=${values.approvals} onInput=${set("approvals")} hint="No tool is called before a person has approved the call." />
        </div>
      </details>
      ${form.problem && html`<${Problem} error=${form.problem} />`}
      <div class="actions">
        <button class="button primary" disabled=${form.isBusy}>Start run</button>
        <button type="button" class="button plain" onClick=${() => copy(sendCommand(path(), body()), "Command")}>Copy as curl</button>
      </div>
    </form>
  </div>`;
}

/** @param {{ chosen: string[], onChange: (slugs: string[]) => void }} props */
function DepartmentChoice({ chosen, onChange }) {
  const toggle = (/** @type {string} */ slug) => onChange(chosen.includes(slug) ? chosen.filter((one) => one !== slug) : [...chosen, slug]);
  return html`<fieldset class="choices"><legend class="label">Departments <small>· none chosen: all active ones, in the order of their priority</small></legend>
    <div class="chips">${orderedDepartments.value.map((one) => html`<button type="button" class="chip" aria-pressed=${chosen.includes(one.slug) ? "true" : "false"} onClick=${() => toggle(one.slug)}>${one.name}</button>`)}</div>
  </fieldset>`;
}
