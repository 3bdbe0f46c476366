/** A person's decision on ended work. */
import { Dialog } from "../../components/dialog.js";
import { Field } from "../../components/field.js";
import { toast } from "../../components/toast.js";
import { html, useState } from "../../lib/html.js";
import { countWaiting } from "../../lib/inbox.js";
import { api } from "../../lib/session.js";

const DECISIONS = [
  ["approved", "Approve", "The work is accepted."],
  ["revision-needed", "Revision needed", "The agent continues from there, and every report above it is rewritten."],
  ["rejected", "Reject", "The work is not used."],
];

/**
 * @param {{ execution: { executionId: string }, name?: string, initial?: string, onClose: () => void, onDone: () => void }} props
 */
export function ReviewDialog({ execution, name, initial = "approved", onClose, onDone }) {
  const [status, setStatus] = useState(initial);
  const [notes, setNotes] = useState("");
  const [error, setError] = useState("");
  const submit = async () => {
    setError("");
    try {
      await api().run(execution.executionId).review(/** @type {any} */ (status), notes.trim());
    } catch (problem) {
      const field = /** @type {any} */ (problem).errors?.find((/** @type {any} */ one) => one.path === "notes");
      setError(field?.message ?? "");
      throw problem;
    }
    toast(status === "revision-needed" ? "Sent back: the run is open again." : "Review saved.");
    countWaiting().catch(() => {});
    onDone();
  };
  return html`<${Dialog} title=${name ? `Review the work of ${name}` : "Review"} action="Save review" onClose=${onClose} onSubmit=${submit}>
    <fieldset class="choices"><legend class="hidden">Decision</legend>
      ${DECISIONS.map(
        ([value, title, text]) => html`<label class="choice">
          <input type="radio" name="decision" value=${value} checked=${status === value} onInput=${() => setStatus(value)} />
          <span><b>${title}</b><span class="meta">${text}</span></span>
        </label>`,
      )}
    </fieldset>
    <${Field} label="Notes" kind="textarea" value=${notes} onInput=${setNotes} error=${error} hint=${status === "revision-needed" ? "Say what has to be revised." : "Optional."} />
  <//>`;
}
