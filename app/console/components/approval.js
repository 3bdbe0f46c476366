/** A tool call that waits for a person: its exact input, an editor for it, and the decision. */
import { ago, fullTime, json } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { countWaiting } from "../lib/inbox.js";
import { agentName } from "../lib/names.js";
import { api, may } from "../lib/session.js";
import { errorsByField, parseField } from "../lib/use-form.js";
import { Field } from "./field.js";
import { Icon } from "./icon.js";
import { Json } from "./json.js";
import { Problem } from "./states.js";
import { toast } from "./toast.js";

/** The message for each decision. */
const DONE = /** @type {Record<string, string>} */ ({ approve: "Approved: the call is made with this input.", decline: "Declined: the agent continues without the call." });

/**
 * @param {{ approval: any, onDone: () => void }} props
 */
export function Approval({ approval, onDone }) {
  const [edited, setEdited] = useState(/** @type {string | null} */ (null));
  const [message, setMessage] = useState("");
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [problem, setProblem] = useState(/** @type {any} */ (undefined));
  const [isBusy, setBusy] = useState(false);

  const decide = async (/** @type {"approve" | "decline"} */ decision) => {
    setBusy(true);
    setErrors({});
    setProblem(undefined);
    try {
      const input = decision === "approve" && edited !== null ? { input: parseField(edited, "input") } : {};
      const body = { decision, inputDigest: approval.inputDigest, ...input, ...(message.trim() ? { message: message.trim() } : {}) };
      await api().post(`/approvals/${encodeURIComponent(approval.id)}/decision`, body);
      toast(DONE[decision]);
      countWaiting().catch(() => {});
      onDone();
    } catch (error) {
      setErrors(errorsByField(error));
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };

  return html`<div class="stack" aria-busy=${isBusy}>
    <dl class="kv">
      <dt>Agent</dt><dd>${agentName(approval.agent)}</dd>
      <dt>Tool</dt><dd><code>${approval.toolName}</code>${approval.toolVersion ? ` ${approval.toolVersion}` : ""}</dd>
      <dt>Requested</dt><dd title=${fullTime(approval.requestedAt)}>${ago(approval.requestedAt)}</dd>
      <dt>Expires</dt><dd>${fullTime(approval.expiresAt)}</dd>
    </dl>
    ${edited === null
      ? html`<${Json} label="Input" value=${approval.input} />`
      : html`<${Field} label="Input" kind="json" rows="10" value=${edited} onInput=${setEdited} error=${errors.input} hint="The call is made with exactly this input. It must match the tool's schema." />`}
    ${may("runner") && html`
      <${Field} label="Message" kind="textarea" rows="2" value=${message} onInput=${setMessage} error=${errors.message} hint="Optional. If you decline, the agent receives it." />
      ${problem && html`<${Problem} error=${problem} />`}
      <div class="actions">
        <button class="button primary" disabled=${isBusy} onClick=${() => decide("approve")}>Approve</button>
        <button class="button danger" disabled=${isBusy} onClick=${() => decide("decline")}>Decline</button>
        <button class="button push" onClick=${() => setEdited(edited === null ? json(approval.input) : null)}>${edited !== null && html`<${Icon} name="back" />`}${edited === null ? "Edit input" : "Discard changes"}</button>
      </div>`}
  </div>`;
}
