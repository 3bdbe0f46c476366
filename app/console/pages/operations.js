/** Health first, then models, MCP servers, keys and the audit log. */
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { Icon } from "../components/icon.js";
import { Empty, Loaded } from "../components/states.js";
import { Table } from "../components/table.js";
import { fullTime } from "../lib/format.js";
import { copy } from "../lib/clipboard.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { readAll } from "../lib/names.js";
import { api, mayEdit } from "../lib/session.js";
import { errorsByField } from "../lib/use-form.js";
import { AuditLog } from "./audit.js";

const EVERY_MS = 10_000;
const PER_MILLION = 1_000_000;

export default function OperationsPage() {
  return html`<div class="page">
    <div class="page-head"><h1>Operations</h1><a class="button push" href="/docs">API description</a></div>
    <${Health} />
    <${Models} />
    <${McpServers} />
    ${mayEdit.value && html`<${Keys} />`}
    ${mayEdit.value && html`<${AuditLog} />`}
  </div>`;
}

/** Reads the probe, whose answer says what fails also with status 503. @param {AbortSignal} signal */
async function readHealth(signal) {
  return (await fetch("/readyz", { signal })).json();
}

function Health() {
  const load = useLoad(readHealth, [], { everyMs: EVERY_MS });
  return html`<section class="stack" aria-label="Health">
    <${Loaded} load=${load} lines=${2}>
      ${(/** @type {any} */ health) => html`<div class=${`note ${health.status === "ready" ? "ok" : "bad"}`}><${Icon} name=${health.status === "ready" ? "check" : "warning"} /><b>${health.status === "ready" ? "All systems are ready" : "Not ready"}</b></div>
        <ul class="groups">${Object.entries(health.checks).map(([name, result]) => html`<li class="tile" key=${name}><span class="tile-head"><span class=${`status ${result === "ok" ? "ok" : "bad"}`}><${Icon} name=${result === "ok" ? "check" : "warning"} />${name}</span></span><p>${result}</p></li>`)}</ul>`}
    <//>
  </section>`;
}

/** @param {{ isGood: boolean, word: string }} props */
const State = ({ isGood, word }) => html`<span class=${`status ${isGood ? "ok" : "warn"}`}><${Icon} name=${isGood ? "check" : "warning"} />${word}</span>`;

/** @param {number | null} price per token */
const perMillion = (price) => (price === null ? "–" : `$${(price * PER_MILLION).toFixed(2)}`);

function Models() {
  const load = useLoad((signal) => api().get("/models", { limit: 200 }, signal), []);
  const columns = [
    { title: "Model", class: "key", cell: (/** @type {any} */ one) => html`<b>${one.name}</b>` },
    { title: "State", cell: (/** @type {any} */ one) => html`<${State} isGood=${one.usable} word=${one.usable ? "Usable" : "Not usable"} />` },
    { title: "Input, 1 M tokens", class: "right", cell: (/** @type {any} */ one) => perMillion(one.inputCostPerToken) },
    { title: "Output, 1 M tokens", class: "right", cell: (/** @type {any} */ one) => perMillion(one.outputCostPerToken) },
    { title: "Note", cell: (/** @type {any} */ one) => html`<span class="muted">${one.problem ?? (one.retiresOn ? `Retires on ${one.retiresOn}` : "")}</span>` },
  ];
  return html`<section class="stack" aria-label="Models">
    <${Loaded} load=${load}>${(/** @type {any} */ page) => html`<div class="card-head"><h2>Models</h2><span class="meta">from ${page.source}</span></div>
      ${page.source.startsWith("the demo model") && html`<p class="note"><${Icon} name="warning" />The demo model answers offline from prepared texts. Nothing is billed; costs are its list price. Set a provider key or MODELS_CONFIG for real models.</p>`}
      <${Table} label="Models" columns=${columns} rows=${page.items} rowKey=${(/** @type {any} */ one) => one.name} />`}<//>
  </section>`;
}

function McpServers() {
  const load = useLoad(() => readAll("/mcp-servers"), [], { everyMs: EVERY_MS });
  const columns = [
    { title: "Server", cell: (/** @type {any} */ one) => html`<b>${one.name}</b>` },
    { title: "State", cell: (/** @type {any} */ one) => html`<${State} isGood=${one.connected} word=${one.state} />` },
    { title: "Transport", cell: (/** @type {any} */ one) => one.transport ?? "–" },
    { title: "Tools", cell: (/** @type {any} */ one) => html`<span class="muted">${one.tools.join(", ") || one.problem || "–"}</span>` },
  ];
  return html`<section class="stack" aria-label="MCP servers">
    <h2>MCP servers</h2>
    <${Loaded} load=${load} lines=${2}>${(/** @type {any[]} */ servers) => html`<${Table} label="MCP servers" columns=${columns} rows=${servers} rowKey=${(/** @type {any} */ one) => one.name} empty=${html`<${Empty} icon="tool" title="No MCP server is configured"><p>MCP_SERVERS names a file with servers whose tools agents may call.</p><//>`} />`}<//>
  </section>`;
}

function Keys() {
  const load = useLoad(() => readAll("/api-keys"), []);
  const [isCreating, setCreating] = useState(false);
  const [revoking, setRevoking] = useState(/** @type {any} */ (null));
  const [created, setCreated] = useState("");
  const columns = [
    { title: "Name", cell: (/** @type {any} */ one) => html`<b>${one.name}</b>` },
    { title: "Role", cell: (/** @type {any} */ one) => one.role },
    { title: "Projects", cell: (/** @type {any} */ one) => (one.allProjects ? "All" : one.projects.join(", ")) },
    { title: "Run limit", cell: (/** @type {any} */ one) => one.runRateLimit ?? "–" },
    { title: "Created", cell: (/** @type {any} */ one) => fullTime(one.createdAt) },
    { title: html`<span class="hidden">Actions</span>`, class: "right", cell: (/** @type {any} */ one) => html`<button class="button danger" aria-label=${`Revoke ${one.name}`} onClick=${() => setRevoking(one)}>Revoke</button>` },
  ];
  return html`<section class="stack" aria-label="Keys">
    <div class="card-head"><h2>Keys</h2><button class="button push" onClick=${() => setCreating(true)}><${Icon} name="plus" />New key</button></div>
    ${created && html`<div class="note ok"><div class="stack-2"><span>This key is shown only once.</span><div class="cluster"><code class="key-shown">${created}</code><button class="button" onClick=${() => copy(created, "Key")}>Copy</button><button class="button plain" onClick=${() => setCreated("")}>Done</button></div></div></div>`}
    <${Loaded} load=${load} lines=${2}>${(/** @type {any[]} */ keys) => html`<${Table} label="Keys" columns=${columns} rows=${keys} rowKey=${(/** @type {any} */ one) => one.id} empty=${html`<${Empty} icon="operations" title="No stored keys"><p>The bootstrap key of this service is not listed.</p><//>`} />`}<//>
    ${isCreating && html`<${KeyDialog} onClose=${() => setCreating(false)} onDone=${(/** @type {string} */ key) => { setCreated(key); load.reload(); }} />`}
    ${revoking && html`<${Dialog} title=${`Revoke ${revoking.name}?`} action="Revoke" tone="danger" onClose=${() => setRevoking(null)} onSubmit=${async () => { await api().delete(`/api-keys/${revoking.id}`); load.reload(); }}><p>Requests with this key are refused within five seconds.</p><//>`}
  </section>`;
}

/** @param {{ onClose: () => void, onDone: (key: string) => void }} props */
function KeyDialog({ onClose, onDone }) {
  const [values, setValues] = useState({ name: "", role: "runner", projects: "", runRateLimit: "" });
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const set = (/** @type {string} */ name) => (/** @type {string} */ value) => setValues({ ...values, [name]: value });
  const create = async () => {
    /** @type {any} */
    const body = { name: values.name, role: values.role };
    const projects = values.projects.split(/[\s,]+/).filter(Boolean);
    if (projects.length) body.projects = projects;
    if (values.runRateLimit) body.runRateLimit = values.runRateLimit;
    try {
      onDone((await api().post("/api-keys", body)).key);
    } catch (error) {
      setErrors(errorsByField(error));
      throw error;
    }
  };
  return html`<${Dialog} title="New key" action="Create" onClose=${onClose} onSubmit=${create}>
    <${Field} label="name" value=${values.name} onInput=${set("name")} error=${errors.name} hint="Its holder, shown in reviews and lists." />
    <${Field} label="role" kind="select" options=${["viewer", "runner", "admin"]} value=${values.role} onInput=${set("role")} error=${errors.role} />
    <${Field} label="projects" value=${values.projects} onInput=${set("projects")} error=${errors.projects} hint="Ids separated by commas; empty: all projects." />
    <${Field} label="runRateLimit" value=${values.runRateLimit} onInput=${set("runRateLimit")} error=${errors.runRateLimit} hint="Such as 60/minute; empty: RUN_RATE_LIMIT." />
  <//>`;
}
