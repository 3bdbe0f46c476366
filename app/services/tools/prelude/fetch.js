// `context.fetch`: the request goes to the service, which decides whether it may be made, and makes it.
(global, core) => {
  "use strict";
  const { TypeError, Map } = core;
  const codes = new WeakMap();
  const codeIn = codes.get.bind(codes);
  const open = new core.Map();
  let asked = [];
  let last = 0;

  core.codeOf = (error) => (typeof error === "object" && error !== null ? codeIn(error) : undefined);
  core.takeFetches = () => {
    const taken = asked;
    asked = [];
    return taken;
  };
  const refusal = ({ code, message }) => {
    const error = new TypeError(message);
    error.code = code;
    codes.set(error, code);
    return error;
  };

  class Headers {
    #pairs = new Map();
    constructor(init = []) {
      const pairs = init instanceof Headers || core.isArray(init) || init instanceof Map ? init : Object.entries(init);
      for (const [name, value] of pairs) this.append(name, value);
    }
    append(name, value) {
      const before = this.get(name);
      this.set(name, before === null ? value : `${before}, ${value}`);
    }
    set(name, value) {
      this.#pairs.set(`${name}`.toLowerCase(), `${value}`.trim());
    }
    get(name) {
      return this.#pairs.get(`${name}`.toLowerCase()) ?? null;
    }
    has(name) {
      return this.#pairs.has(`${name}`.toLowerCase());
    }
    delete(name) {
      this.#pairs.delete(`${name}`.toLowerCase());
    }
    forEach(callback) {
      for (const [name, value] of this.#pairs) callback(value, name, this);
    }
    keys() {
      return this.#pairs.keys();
    }
    values() {
      return this.#pairs.values();
    }
    entries() {
      return this.#pairs.entries();
    }
    [Symbol.iterator]() {
      return this.#pairs.entries();
    }
  }

  class Response {
    #body;
    #used = false;
    constructor({ status, statusText, url, redirected, headers, text, base64 }) {
      this.#body = base64 === undefined ? text : Uint8Array.fromBase64(base64);
      Object.assign(this, { status, statusText, url, redirected, ok: status >= 200 && status <= 299, type: "basic" });
      this.headers = new Headers(headers);
    }
    get bodyUsed() {
      return this.#used;
    }
    #take() {
      if (this.#used) throw new TypeError("The body was read already.");
      this.#used = true;
      return this.#body;
    }
    async text() {
      const body = this.#take();
      return typeof body === "string" ? body : core.decodeUtf8(body, false);
    }
    async json() {
      return core.parse(await this.text());
    }
    async bytes() {
      const body = this.#take();
      return typeof body === "string" ? core.encodeUtf8(body) : body;
    }
    async arrayBuffer() {
      return (await this.bytes()).buffer;
    }
  }

  const bodyOf = (body, headers) => {
    if (body === undefined || body === null) return {};
    const say = (type) => {
      if (!headers.has("content-type")) headers.set("content-type", type);
    };
    if (body instanceof URLSearchParams) say("application/x-www-form-urlencoded;charset=UTF-8");
    else if (core.isView(body) || body instanceof ArrayBuffer) return { base64: core.bytesOf(body).toBase64() };
    else say("text/plain;charset=UTF-8");
    return { text: `${body}` };
  };

  core.fetch = (mayFetch, maxFetches) => (url, init = {}) =>
    new core.Promise((resolve, reject) => {
      if (!mayFetch) {
        reject(refusal({ code: "egress-denied", message: "This tool may not fetch." }));
        return;
      }
      if (last >= maxFetches) {
        const message = `A call makes at most ${maxFetches} requests.`;
        reject(refusal({ code: "egress-failed", message }));
        return;
      }
      const headers = new Headers(init.headers);
      const body = bodyOf(init.body, headers);
      const request = {
        id: ++last,
        url: `${url}`,
        method: `${init.method ?? "GET"}`.toUpperCase(),
        headers: [...headers],
        redirect: `${init.redirect ?? "follow"}`,
        ...body,
      };
      core.mapSet(open, request.id, { resolve, reject });
      core.push(asked, request);
    });

  core.receive = (message) => {
    const waiting = core.mapGet(open, message.id);
    core.mapDelete(open, message.id);
    if (waiting === undefined) return;
    if (message.error) waiting.reject(refusal(message.error));
    else waiting.resolve(new Response(message));
  };
  core.define("Headers", Headers);
}
