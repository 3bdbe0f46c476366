/** Who is signed in. The key stays in this tab's session storage and goes into headers only. */
import { ApiError, Client } from "../client/index.js";
import { forgetEarly, send } from "./early.js";
import { computed, signal } from "./html.js";

const STORED = "dynamic-agents-key";
const LINK = "#sign-in=";
const ROLES = ["viewer", "runner", "admin"];

/** @type {import("./types.js").Signal<{ client: Client, name: string, role: string, projects: string[] | null } | null>} */
export const session = signal(null);

/** Why the one-time link that opened this page did not sign in. */
export const linkProblem = signal(/** @type {Error | undefined} */ (undefined));

/** Whether the stored key, or the link, is still being checked. */
export const isOpening = signal(sessionStorage.getItem(STORED) !== null || location.hash.startsWith(LINK));

/** The client of the signed-in caller; pages are shown only while there is one. */
export const api = () => {
  if (!session.value) throw new Error("No one is signed in.");
  return session.value.client;
};

/**
 * Whether the caller has a role or a higher one.
 *
 * @param {"viewer" | "runner" | "admin"} role
 */
export const may = (role) => ROLES.indexOf(session.value?.role ?? "") >= ROLES.indexOf(role);

/** Whether the caller may change what all projects share: the catalog, keys, budgets. */
export const mayEdit = computed(() => may("admin") && session.value?.projects === null);

/**
 * Signs in with a key.
 *
 * @param {string} apiKey
 * @throws {ApiError} the key is invalid
 */
export async function signIn(apiKey) {
  const client = new Client({ baseUrl: location.origin, apiKey, fetch: send });
  const caller = await client.me();
  if (!ROLES.includes(caller.role)) {
    throw new ApiError({ status: 403, code: "not-allowed", title: "Forbidden", detail: "This key may not read anything." });
  }
  sessionStorage.setItem(STORED, apiKey);
  session.value = { client, ...caller };
}

/** Forgets the key. */
export function signOut() {
  forgetEarly();
  sessionStorage.removeItem(STORED);
  session.value = null;
}

/**
 * The key behind the one-time link that opened this page, which is taken out of the address at once.
 *
 * @returns {Promise<string | null>}
 */
async function keyOfLink() {
  if (!location.hash.startsWith(LINK)) return null;
  const code = location.hash.slice(LINK.length);
  history.replaceState(history.state, "", location.pathname + location.search);
  try {
    const answer = await new Client({ baseUrl: location.origin, fetch: send }).post("/me/sign-in", { code });
    return answer.apiKey;
  } catch (error) {
    linkProblem.value = /** @type {Error} */ (error);
    return null;
  }
}

/** Signs in with the link that opened this page, or with the key of this tab, if there is one. */
export async function resume() {
  try {
    const apiKey = (await keyOfLink()) ?? sessionStorage.getItem(STORED);
    if (apiKey) await signIn(apiKey);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) signOut();
  } finally {
    if (!session.value) forgetEarly();
    isOpening.value = false;
  }
}
