import { followEvents } from "./events.js";
import { Http } from "./http.js";

const API = "/api/v1";

/** @param {string} part */
const quoted = (part) => encodeURIComponent(part);

/** A client of the service: `new Client({ baseUrl, apiKey })`. */
export class Client {
  /** @param {import("./types.js").ClientOptions} [options] */
  constructor(options = {}) {
    const baseUrl = options.baseUrl ?? globalThis.location?.origin ?? "http://127.0.0.1:8000";
    this.http = new Http({ ...options, baseUrl });
    this.WebSocket = options.WebSocket;
  }

  /**
   * Reads a resource: `client.get("/executions", { limit: 20 })`.
   *
   * @param {string} path below `/api/v1`
   * @param {import("./types.js").Query} [query]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>}
   */
  get(path, query, signal) {
    return this.http.request("GET", API + path, { query, signal });
  }

  /**
   * Reads a resource with its `ETag`, for a change that must not overwrite another.
   *
   * @param {string} path below `/api/v1`
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ data: any, etag: string | undefined }>}
   */
  async getWithEtag(path, signal) {
    let etag = /** @type {string | undefined} */ (undefined);
    const onHeaders = (/** @type {Headers} */ headers) => {
      etag = headers.get("ETag") ?? undefined;
    };
    const data = await this.http.request("GET", API + path, { signal, onHeaders });
    return { data, etag };
  }

  /**
   * @param {string} path below `/api/v1`
   * @param {any} [body]
   * @param {import("./types.js").RequestOptions} [options]
   * @returns {Promise<any>}
   */
  post(path, body, options) {
    return this.http.request("POST", API + path, { ...options, body });
  }

  /**
   * Changes a resource by a merge patch. With an `etag`, only if it has not changed since.
   *
   * @param {string} path below `/api/v1`
   * @param {any} body
   * @param {string} [etag]
   * @returns {Promise<any>}
   */
  patch(path, body, etag) {
    return this.http.request("PATCH", API + path, { body, headers: etag ? { "If-Match": etag } : {} });
  }

  /**
   * @param {string} path below `/api/v1`
   * @param {any} body
   * @returns {Promise<any>}
   */
  put(path, body) {
    return this.http.request("PUT", API + path, { body });
  }

  /**
   * @param {string} path below `/api/v1`
   * @returns {Promise<void>}
   */
  delete(path) {
    return this.http.request("DELETE", API + path);
  }

  /**
   * Starts a run of an agent, a department, or several departments.
   *
   * @param {import("./types.js").StartRequest} request exactly one of `agent`, `department` and `departments`
   * @returns {Promise<Run>}
   */
  async start({ agent, department, departments, idempotencyKey = crypto.randomUUID(), ...body }) {
    if (agent) return this.#started(`/agents/${quoted(agent)}/runs`, body, idempotencyKey);
    if (department) return this.#started(`/departments/${quoted(department)}/runs`, body, idempotencyKey);
    return this.#started("/orchestrations", departments ? { ...body, departments } : body, idempotencyKey);
  }

  /**
   * @param {string} path
   * @param {any} body
   * @param {string} idempotencyKey
   */
  async #started(path, body, idempotencyKey) {
    return new Run(this, (await this.post(path, body, { idempotencyKey })).executionId);
  }

  /**
   * A run that was started before.
   *
   * @param {string} executionId
   */
  run(executionId) {
    return new Run(this, executionId);
  }

  /**
   * Adds up tokens and cost.
   *
   * @param {import("./types.js").Query} [query]
   */
  usage(query) {
    return this.get("/analytics/usage", query);
  }

  /** The name, role and projects of the key. */
  me() {
    return this.get("/me");
  }
}

/** An execution: a run, or a part of one. */
export class Run {
  /**
   * @param {Client} client
   * @param {string} executionId
   */
  constructor(client, executionId) {
    this.client = client;
    this.executionId = executionId;
    this.path = `/executions/${quoted(executionId)}`;
  }

  /**
   * Reads the execution as it is now.
   *
   * @param {AbortSignal} [signal]
   */
  read(signal) {
    return this.client.get(this.path, undefined, signal);
  }

  /**
   * Follows the events, stored ones first, each once and in order, over any number of connections.
   *
   * @param {Partial<import("./types.js").FollowOptions>} [options]
   */
  events(options = {}) {
    const { baseUrl, apiKey } = this.client.http;
    const url = `${baseUrl.replace(/^http/, "ws")}/api/agent-events`;
    return followEvents({ url, apiKey, executionId: this.executionId, WebSocket: this.client.WebSocket, ...options });
  }

  /**
   * Waits for the end and returns the execution.
   *
   * @param {AbortSignal} [signal]
   */
  async wait(signal) {
    const events = this.events({ signal });
    while (!(await events.next()).done);
    return this.read(signal);
  }

  /** Cancels the run with all its executions. */
  cancel() {
    return this.client.post(`${this.path}/cancel`);
  }

  /**
   * Retries a failed or cancelled run as a new one.
   *
   * @param {"checkpoint" | "start"} [from]
   * @returns {Promise<Run>}
   */
  async retry(from = "checkpoint") {
    const options = { query: { from }, idempotencyKey: crypto.randomUUID() };
    return new Run(this.client, (await this.client.post(`${this.path}/retry`, undefined, options)).executionId);
  }

  /**
   * Reviews the execution as a person. A revision needs notes, and reopens the run.
   *
   * @param {"approved" | "rejected" | "revision-needed"} status
   * @param {string} [notes]
   */
  review(status, notes) {
    return this.client.post(`${this.path}/review`, notes ? { status, notes } : { status });
  }
}

