// AbortController and AbortSignal, with as much of events as they need.
(global, core) => {
  "use strict";
  const { TypeError, DOMException, Map } = core;
  const secret = {};

  class Event {
    #type;
    target = null;
    constructor(type) {
      this.#type = `${type}`;
    }
    get type() {
      return this.#type;
    }
  }

  class EventTarget {
    #listeners = new Map();
    addEventListener(type, listener, { once = false } = {}) {
      if (listener === null || listener === undefined) return;
      const listeners = this.#listeners.get(`${type}`) ?? new Map();
      if (!listeners.has(listener)) listeners.set(listener, once);
      this.#listeners.set(`${type}`, listeners);
    }
    removeEventListener(type, listener) {
      this.#listeners.get(`${type}`)?.delete(listener);
    }
    dispatchEvent(event) {
      event.target = this;
      this[`on${event.type}`]?.(event);
      for (const [listener, once] of [...(this.#listeners.get(event.type) ?? [])]) {
        if (once) this.removeEventListener(event.type, listener);
        if (typeof listener === "function") listener.call(this, event);
        else listener.handleEvent(event);
      }
      return true;
    }
  }

  class AbortSignal extends EventTarget {
    #aborted = false;
    #reason;
    onabort = null;
    constructor(key) {
      super();
      if (key !== secret) throw new TypeError("Illegal constructor");
    }
    static abort(reason) {
      const controller = new AbortController();
      controller.abort(reason);
      return controller.signal;
    }
    static timeout(milliseconds) {
      const signal = new AbortSignal(secret);
      setTimeout(() => AbortSignal.#stop(signal, new DOMException("The operation timed out.", "TimeoutError")), milliseconds);
      return signal;
    }
    static any(signals) {
      const signal = new AbortSignal(secret);
      for (const one of [...signals]) {
        if (one.aborted) AbortSignal.#stop(signal, one.reason);
        else one.addEventListener("abort", () => AbortSignal.#stop(signal, one.reason));
      }
      return signal;
    }
    static #stop(signal, reason) {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason === undefined ? new DOMException("The operation was aborted.", "AbortError") : reason;
      signal.dispatchEvent(new Event("abort"));
    }
    static {
      core.abortSignal = AbortSignal.#stop;
    }
    get aborted() {
      return this.#aborted;
    }
    get reason() {
      return this.#reason;
    }
    throwIfAborted() {
      if (this.#aborted) throw this.#reason;
    }
  }

  class AbortController {
    #signal = new AbortSignal(secret);
    get signal() {
      return this.#signal;
    }
    abort(reason) {
      core.abortSignal(this.#signal, reason);
    }
  }
  core.define("Event", Event);
  core.define("EventTarget", EventTarget);
  core.define("AbortSignal", AbortSignal);
  core.define("AbortController", AbortController);
}
