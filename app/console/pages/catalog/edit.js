/** The form of an entry: the API validates, and its errors stand beside their fields. */
import { Dialog } from "../../components/dialog.js";
import { Check, Field } from "../../components/field.js";
import { Loaded, Problem } from "../../components/states.js";
import { toast } from "../../components/toast.js";
import { copy, readCommand } from "../../lib/clipboard.js";
import { html, useEffect, useState } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { loadNames, orderedDepartments, readAll } from "../../lib/names.js";
import { Link, navigate } from "../../lib/router.js";
import { api, may, mayEdit } from "../../lib/session.js";
import { useForm } from "../../lib/use-form.js";
import { Facts } from "./facts.js";
import { NEW } from "./kinds.js";
import { TryTool } from "./try-tool.js";
import { toBody, toForm, toPatch } from "./values.js";

/** @typedef {import("./kinds.js").Kind} Kind */

/** @param {{ kind: Kind, entryKey: string | null }} props */
export function Edit({ kind, entryKey }) {
  const path = `${kind.path}/${encodeURIComponent(entryKey ?? "")}`;
  const load = useLoad(async (signal) => (entryKey === null ? { data: NEW[kind.id], etag: undefined } : api().getWithEtag(path, signal)), [path]);
  return html`<${Loaded} load=${load}>
    ${(/** @type {any} */ found) => html`<${Form} key=${found.etag} kind=${kind} entryKey=${entryKey} entry=${found.data} etag=${found.etag} reload=${load.reload} />`}
  <//>`;
}

/** @param {{ kind: Kind, entryKey: string | null, entry: any, etag: string | undefined, reload: () => void }} props */
function Form({ kind, entryKey, entry, etag, reload }) {
  const isNew = entryKey === null;
  const canEdit = mayEdit.value && (entry.source === undefined || entry.source === "custom");
  const fields = kind.fields.filter((field) => field.name !== "executeFunction" || isNew || entry.executeFunction !== null);
  const [before] = useState(() => toForm(fields, entry));
  const form = useForm(before);
  const [isDeleting, setDeleting] = useState(false);
  const path = `${kind.path}/${encodeURIComponent(entryKey ?? "")}`;

  const save = form.submit(async () => {
    const saved = isNew ? await api().post(kind.path, toBody(fields, form.values)) : await api().patch(path, toPatch(fields, before, form.values), etag);
    toast(`${saved[kind.name]} is saved. The next run uses it.`);
    loadNames().catch(() => {});
    if (isNew) navigate(`/catalog/${kind.id}/${encodeURIComponent(saved[kind.key])}`);
    else reload();
  });
  const remove = async () => {
    await api().delete(path);
    toast(`${entry[kind.name]} is deleted.`);
    loadNames().catch(() => {});
    navigate(`/catalog/${kind.id}`);
  };

  return html`<div class="crumbs"><${Link} to=${`/catalog/${kind.id}`}>${kind.title}<//><span aria-hidden="true">/</span><span>${isNew ? `New ${kind.one}` : entry[kind.name]}</span></div>
    <div class="split">
      <form class="card" onSubmit=${save} aria-busy=${form.isBusy} aria-label=${isNew ? `New ${kind.one}` : entry[kind.name]} noValidate>
        ${!canEdit && !isNew && html`<p class="note">${entry.source && entry.source !== "custom" ? "This tool comes with the service and cannot be changed here." : "Your key may read this entry."}</p>`}
        <div class="fields"><${Fields} fields=${fields} form=${form} kind=${kind} isNew=${isNew} canEdit=${canEdit} /></div>
        ${form.problem && html`<${Problem} error=${form.problem} />`}
        <div class="actions">
          ${canEdit && html`<button class="button primary" disabled=${form.isBusy}>Save</button>`}
          ${!isNew && html`<button type="button" class="button plain" onClick=${() => copy(readCommand(`/api/v1${path}`), "Command")}>Copy as curl</button>`}
          ${canEdit && !isNew && html`<button type="button" class="button danger push" onClick=${() => setDeleting(true)}>Delete</button>`}
        </div>
      </form>
      <div class="stack">
        ${kind.id === "tools" && !isNew && may("admin") && html`<${TryTool} toolName=${entry.toolName} example=${entry.exampleInputs?.[0]} canTry=${mayEdit.value} />`}
        ${!isNew && html`<${Facts} kind=${kind} entry=${entry} />`}
      </div>
    </div>
    ${isDeleting && html`<${Dialog} title=${`Delete ${entry[kind.name]}?`} action="Delete" tone="danger" onClose=${() => setDeleting(false)} onSubmit=${remove}>
      <p>Runs that have ended keep their record. This cannot be undone.</p>
    <//>`}`;
}

/** @param {{ fields: import("./kinds.js").FieldSpec[], form: any, kind: Kind, isNew: boolean, canEdit: boolean }} props */
function Fields({ fields, form, kind, isNew, canEdit }) {
  const [models, setModels] = useState(/** @type {string[]} */ ([]));
  useEffect(() => {
    readAll("/models").then((found) => setModels(found.map((one) => one.name)), () => {});
  }, []);
  return fields.map((field) => {
    const { name, kind: type = "text", rows, hint, min, max, step } = field;
    const common = { key: name, label: name, hint, error: form.errors[name], onInput: form.set(name), disabled: !canEdit && !isNew };
    const value = form.values[name];
    if (type === "check") return html`<${Check} ...${common} checked=${value} />`;
    const isFixed = name === kind.key && !isNew;
    if (field.from === "departments") {
      const options = [{ value: "", label: "Choose a department" }, ...orderedDepartments.value.map((one) => ({ value: one.slug, label: one.name }))];
      return html`<${Field} ...${common} kind="select" value=${value} options=${options} />`;
    }
    if (field.from === "models") {
      const options = [...new Set([...(isNew ? [""] : []), value, ...models])].map((one) => ({ value: one, label: one || "The default" }));
      return html`<${Field} ...${common} kind="select" value=${value} options=${options} />`;
    }
    const shown = type === "lines" ? "textarea" : type;
    return html`<${Field} ...${common} kind=${shown} value=${value} rows=${rows} min=${min} max=${max} step=${step} readOnly=${isFixed} wide=${shown === "code" || shown === "json" || name === "description" || name === "instructionsPrompt"} />`;
  });
}
