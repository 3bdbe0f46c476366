/** Signing in with an API key. */
import { Field } from "../components/field.js";
import { Problem } from "../components/states.js";
import { html, useState } from "../lib/html.js";
import { linkProblem, signIn } from "../lib/session.js";

/** What was typed into the form of the served page, before this one takes its place. */
let typed = /** @type {HTMLInputElement | null} */ (document.querySelector(".sign-in input"))?.value ?? "";

const takeTyped = () => {
  const text = typed;
  typed = "";
  return text;
};

export function SignIn() {
  const [key, setKey] = useState(takeTyped);
  const [error, setError] = useState(linkProblem.value);
  const [isBusy, setBusy] = useState(false);

  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await signIn(key.trim());
    } catch (problem) {
      const isRefused = /** @type {any} */ (problem).status === 401;
      setError(isRefused ? new Error("The service does not know this key. Check it and try again.") : /** @type {Error} */ (problem));
      setBusy(false);
    }
  };

  return html`<main class="sign-in">
    <form class="card" onSubmit=${submit} aria-busy=${isBusy}>
      <h1 class="brand"><img src="/console/icon.svg" alt="" />Dynamic Agents</h1>
      <p class="muted">Sign in with an API key. It stays in this tab and is forgotten when you close it.</p>
      <${Field} label="API key" kind="password" value=${key} onInput=${setKey} autocomplete="off" required autofocus spellcheck="false" />
      ${error && html`<${Problem} error=${error} />`}
      <button class="button primary" disabled=${isBusy || !key.trim()}>Sign in</button>
      <p class="meta">On this machine, <code>make serve</code> keeps the admin key in <code>.data/admin-key</code>.</p>
    </form>
  </main>`;
}
