// `context.fetch`: the request goes to the service, which decides whether it may be made, and makes it.
(global, core) => {
  "use strict";
  const { TypeError, Map, stringify } = core;
  // What URL, method and headers may take together; the service has its own, smaller bounds for each.
  const MAX_HEAD_CHARACTERS = 64 * 1024;
  const codes = new WeakMap();
  const codeIn = codes.get.bind(codes);
  const note = codes.set.bind(codes);
  const open = new core.Map();
  let asked = "";
  let last = 0;

  core.codeOf = (error) => (typeof error === "object" && error !== null ? codeIn(error) : undefined);
  core.takeFetches = () => {
    const taken = asked;
    asked = "";
    return taken;
  };
  const refusal = ({ code, message }) => {
    const error = new TypeError(message);
    error.code = code;
    note(error, code);
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

  const denied = (message) => refusal({ code: "egress-denied", message });
  const bodyOf = (body, headers) => {
    if (body === undefined || body === null) return { text: "" };
    const say = (type) => {
      if (!headers.has("content-type")) headers.set("content-type", type);
    };
    if (body instanceof URLSearchParams) say("application/x-www-form-urlencoded;charset=UTF-8");
    else if (core.isView(body) || body instanceof ArrayBuffer) return { bytes: core.bytesOf(body) };
    else say("text/plain;charset=UTF-8");
    return { text: `${body}` };
  };
  const toldBody = ({ text, bytes }, maxSent) => {
    if ((bytes ?? text).length > maxSent) throw denied(`A request's body is at most ${maxSent} bytes.`);
    return bytes ? `"base64":${stringify(`${bytes.toBase64()}`)}` : `"text":${stringify(text)}`;
  };
  // Told as text at once, of primitive strings alone: what it says cannot be changed later.
  const tell = (id, url, init, maxSent) => {
    const headers = new Headers(init.headers ?? []);
    const body = toldBody(bodyOf(init.body, headers), maxSent);
    const [to, method, redirect] = [`${url}`, `${init.method ?? "GET"}`.toUpperCase(), `${init.redirect ?? "follow"}`];
    let size = to.length + method.length + redirect.length;
    let pairs = "";
    for (const [name, value] of headers) {
      size += `${name}`.length + `${value}`.length + 16;
      if (size <= MAX_HEAD_CHARACTERS) pairs += `${pairs && ","}[${stringify(`${name}`)},${stringify(`${value}`)}]`;
    }
    if (size > MAX_HEAD_CHARACTERS) throw denied("The request's URL and headers are too large.");
    return (
      `{"id":${id},"url":${stringify(to)},"method":${stringify(method)},"headers":[${pairs}],` +
      `"redirect":${stringify(redirect)},${body}}`
    );
  };

  core.fetch = ({ mayFetch, maxFetches, maxSent }) => (url, init) =>
    new core.Promise((resolve, reject) => {
      if (!mayFetch) throw denied("This tool may not fetch.");
      if (last >= maxFetches) {
        throw refusal({ code: "egress-failed", message: `A call makes at most ${maxFetches} requests.` });
      }
      const signal = init?.signal;
      signal?.throwIfAborted();
      const id = ++last;
      const request = tell(id, url, init ?? {}, maxSent);
      asked += `${asked && ","}${request}`;
      core.mapSet(open, id, { resolve, reject });
      signal?.addEventListener("abort", () => reject(signal.reason));
    });

  // As a reaction, where the tool's deadline holds: what an answer is made of can be the tool's own by now.
  core.receive = (message) => {
    const waiting = core.mapGet(open, message.id);
    core.mapDelete(open, message.id);
    if (waiting === undefined) return;
    core.queueMicrotask(() => {
      try {
        if (message.error) throw refusal(message.error);
        waiting.resolve(new Response(message));
      } catch (error) {
        waiting.reject(error);
      }
    });
  };
  core.define("Headers", Headers);
}
