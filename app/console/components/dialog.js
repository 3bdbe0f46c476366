/** Modal dialogs, with the browser's own focus handling. */
import { html, useEffect, useId, useRef, useState } from "../lib/html.js";
import { Problem } from "./states.js";

/**
 * A dialog with a form. `onSubmit` may throw: the error is shown and the dialog stays.
 *
 * @param {{ title: string, action: string, tone?: string, onClose: () => void, onSubmit: () => Promise<void> | void, children?: any }} props
 */
export function Dialog({ title, action, tone = "", onClose, onSubmit, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [problem, setProblem] = useState(/** @type {Error | undefined} */ (undefined));
  const [isBusy, setBusy] = useState(false);
  const id = useId();

  useEffect(() => {
    dialog.current?.showModal();
  }, []);

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await onSubmit();
      onClose();
    } catch (error) {
      setProblem(/** @type {Error} */ (error));
      setBusy(false);
    }
  };

  return html`<dialog class="dialog" ref=${dialog} aria-labelledby=${id} onClose=${onClose}>
    <form onSubmit=${submit} aria-busy=${isBusy}>
      <h2 id=${id}>${title}</h2>
      ${children}
      ${problem && html`<${Problem} error=${problem} />`}
      <div class="actions">
        <button type="button" class="button" onClick=${onClose}>Close</button>
        <button class=${`button primary ${tone}`} disabled=${isBusy}>${action}</button>
      </div>
    </form>
  </dialog>`;
}
