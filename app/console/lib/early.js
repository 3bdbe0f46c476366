/** The answers to the requests that `first.js` sent before the modules were loaded. */

const FRESH_MS = 5000;

/** @type {Map<string, Promise<Response>>} */
const early = /** @type {any} */ (globalThis).early ?? new Map();
const loadedAt = performance.now();

/**
 * Sends a request, unless the page sent it early and its answer is still new. Each early answer is taken once.
 *
 * @type {typeof fetch}
 */
export async function send(address, request) {
  const path = String(address).slice(location.origin.length);
  const answer = early.get(path);
  early.delete(path);
  if (!answer || performance.now() - loadedAt > FRESH_MS) return fetch(address, request);
  return answer;
}

/** Forgets the answers that no one took: they are another caller's. */
export const forgetEarly = () => early.clear();
