/** The answers to the requests that `first.js` sent before the modules were loaded. */

const FRESH_MS = 5000;

/** @type {Map<string, Promise<Response>>} */
const early = /** @type {any} */ (globalThis).early ?? new Map();

/** Forgets the answers that no one took: they become old, or are another caller's. */
export const forgetEarly = () => early.clear();

setTimeout(forgetEarly, FRESH_MS);

/**
 * Sends a request, unless the page sent it early. Each early answer is taken once.
 *
 * @type {typeof fetch}
 */
export async function send(address, request) {
  const path = String(address).slice(location.origin.length);
  const answer = early.get(path);
  early.delete(path);
  return answer ?? fetch(address, request);
}
