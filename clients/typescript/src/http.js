import { ApiError, errorOf, unreachable } from "./errors.js";

const MAX_TRIES = 3;
const MAX_PAUSE_SECONDS = 20;

/**
 * Waits, unless the signal ends the wait.
 *
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * The query of an address, without parameters that are empty.
 *
 * @param {import("./types.js").Query} [query]
 * @returns {string}
 */
export function queryText(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

/** Sends requests with the key in a header; repeats those that are safe to repeat. */
export class Http {
  /** @param {{ baseUrl: string, apiKey?: string, fetch?: typeof fetch }} options */
  constructor({ baseUrl, apiKey, fetch: send }) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.apiKey = apiKey;
    this.send = send ?? ((...request) => globalThis.fetch(...request));
  }

  /**
   * Sends a request and returns the body of its answer.
   *
   * A request with an idempotency key, and any reading one, is tried three times, as far apart as `Retry-After` says.
   *
   * @param {string} method
   * @param {string} path
   * @param {import("./types.js").RequestOptions} [options]
   * @returns {Promise<any>}
   * @throws {ApiError}
   */
  async request(method, path, options = {}) {
    const repeatable = method === "GET" || method === "PUT" || options.idempotencyKey !== undefined;
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#once(method, path, options);
      } catch (error) {
        if (!(error instanceof ApiError) || !error.isTemporary || !repeatable || tries >= MAX_TRIES) throw error;
        const seconds = error.retryAfterSeconds ?? 0.25 * 2 ** tries;
        if (seconds > MAX_PAUSE_SECONDS) throw error;
        await pause(seconds, options.signal);
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {import("./types.js").RequestOptions} options
   */
  async #once(method, path, { query, body, headers = {}, idempotencyKey, signal, onHeaders }) {
    /** @type {Record<string, string>} */
    const sent = { Accept: "application/json", ...headers };
    if (this.apiKey) sent.Authorization = `Bearer ${this.apiKey}`;
    if (body !== undefined) sent["Content-Type"] = "application/json";
    if (idempotencyKey) sent["Idempotency-Key"] = idempotencyKey;
    const request = { method, headers: sent, signal, body: body === undefined ? undefined : JSON.stringify(body) };
    let response;
    try {
      response = await this.send(this.baseUrl + path + queryText(query), request);
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw unreachable(cause);
    }
    if (!response.ok) throw await errorOf(response);
    onHeaders?.(response.headers);
    if (response.status === 204) return undefined;
    return response.json();
  }
}
