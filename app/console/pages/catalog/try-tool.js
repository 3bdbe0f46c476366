/** Calling a tool once, as an agent would. */
import { Field } from "../../components/field.js";
import { Json } from "../../components/json.js";
import { Problem } from "../../components/states.js";
import { duration, json } from "../../lib/format.js";
import { html, useState } from "../../lib/html.js";
import { api } from "../../lib/session.js";
import { parseField, useForm } from "../../lib/use-form.js";

/** @param {{ toolName: string, example: any, canTry: boolean }} props */
export function TryTool({ toolName, example, canTry }) {
  const form = useForm({ input: json(example ?? {}) });
  const [outcome, setOutcome] = useState(/** @type {any} */ (undefined));
  const call = form.submit(async () => {
    setOutcome(undefined);
    setOutcome(await api().post(`/custom-tools/${encodeURIComponent(toolName)}/test`, { input: parseField(form.values.input, "input") }));
  });
  if (!canTry) return null;
  return html`<form class="card" onSubmit=${call} aria-label="Try the tool" aria-busy=${form.isBusy}>
    <h2>Try it</h2>
    <${Field} label="Input" kind="json" rows="6" value=${form.values.input} onInput=${form.set("input")} error=${form.errors.input} />
    <div class="actions"><button class="button primary" disabled=${form.isBusy}>Try</button>${outcome && html`<span class="meta">${duration(outcome.durationMs)}${outcome.memoryBytes ? ` · ${Math.round(outcome.memoryBytes / 1024)} KiB` : ""}</span>`}</div>
    ${form.problem && html`<${Problem} error=${form.problem} />`}
    <div class="stack" aria-live="polite">
      ${outcome?.error && html`<div class="note bad"><span><b>${outcome.error.code}</b> ${outcome.error.message}</span></div>`}
      ${outcome && !outcome.error && html`<${Json} value=${outcome.output} label="Result" />`}
      ${outcome?.console?.length > 0 && html`<pre class="code-block" tabindex="0">${outcome.console.join("\n")}</pre>`}
    </div>
  </form>`;
}
