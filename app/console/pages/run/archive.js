/** The archive of a run, and the legal hold that keeps a run from it. */
import { Icon } from "../../components/icon.js";
import { toast, toastError } from "../../components/toast.js";
import { fullTime } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { api } from "../../lib/session.js";

/**
 * Says where the events of an archived run come from, or that they are gone.
 *
 * @param {{ root: any }} props
 */
export function ArchiveNote({ root }) {
  if (!root.archivedAt) return null;
  const when = html`<time datetime=${root.archivedAt}>${fullTime(root.archivedAt)}</time>`;
  if (areEventsGone(root)) {
    return html`<div class="note bad" role="alert">
      <${Icon} name="warning" />
      <span>Archived ${when}. The events are gone: the archive cannot be read (${root.archive.problem}). An operator can restore the file ${root.archive.file}.</span>
    </div>`;
  }
  return html`<div class="note"><${Icon} name="inbox" /><span>Archived ${when}. The events come from the archive (${root.archive?.file}). The run can no longer be reviewed, retried or continued.</span></div>`;
}

/** @param {any} root */
export const areEventsGone = (root) => root.archive?.readable === false;

/**
 * The switch of the legal hold, for admins.
 *
 * @param {{ root: any, refresh: () => void }} props
 */
export function HoldSwitch({ root, refresh }) {
  const change = () =>
    api()
      .patch(`/executions/${encodeURIComponent(root.executionId)}`, { legalHold: !root.legalHold })
      .then(() => toast(root.legalHold ? "Legal hold released." : "The run is under a legal hold."))
      .then(refresh)
      .catch(toastError);
  const title = root.legalHold ? "Release the hold: the run can be archived and deleted again" : "Keep the run from being archived and deleted";
  return html`<button class="button" aria-pressed=${root.legalHold ? "true" : "false"} title=${title} onClick=${change}>Legal hold</button>`;
}
