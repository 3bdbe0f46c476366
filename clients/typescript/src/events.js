import { ApiError } from "./errors.js";
import { pause } from "./http.js";

const FIRST_PAUSE_SECONDS = 0.25;
const LAST_PAUSE_SECONDS = 10;
const SILENCE_SECONDS = 20;
const ANSWER_SECONDS = 10;
const REFUSED = { 4401: "not-authenticated", 4403: "not-allowed" };

/** A socket that closed; `refusal` means that another attempt would be refused too. */
class Closed extends Error {
  /**
   * @param {string} reason
   * @param {ApiError} [refusal]
   */
  constructor(reason, refusal) {
    super(reason);
    this.refusal = refusal;
  }
}

/** Messages that have arrived and have not been read. */
class Inbox {
  constructor() {
    /** @type {any[]} */
    this.messages = [];
    /** @type {Error | undefined} */
    this.end = undefined;
    this.wake = () => {};
  }

  /** @param {any} message */
  put(message) {
    this.messages.push(message);
    this.wake();
  }

  /** @param {Error} error */
  close(error) {
    this.end ??= error;
    this.wake();
  }

  /** Returns all messages that have arrived, waiting for at least one. */
  async take() {
    while (this.messages.length === 0) {
      if (this.end) throw this.end;
      await new Promise((resolve) => {
        this.wake = () => resolve(undefined);
      });
    }
    return this.messages.splice(0);
  }
}

/**
 * Follows the events of an execution; those of its tree for a root.
 *
 * Yields each event once, in the order of `seq`, whatever connections break meanwhile, and returns the
 * `execution-end` message. A repeated event is dropped; after any break it resumes behind the last event.
 *
 * @param {import("./types.js").FollowOptions} options
 * @returns {AsyncGenerator<import("./types.js").RunEvent, import("./types.js").ExecutionEnd>}
 * @throws {ApiError} the execution does not exist, or the key is not accepted
 */
export async function* followEvents(options) {
  const { signal, onState = () => {} } = options;
  let after = options.after ?? 0;
  let seconds = FIRST_PAUSE_SECONDS;
  for (;;) {
    onState(after === 0 && seconds === FIRST_PAUSE_SECONDS ? "connecting" : "reconnecting");
    const inbox = new Inbox();
    const close = openSocket(options, after, inbox);
    try {
      for (;;) {
        for (const message of await inbox.take()) {
          if (message.type === "subscribed") {
            seconds = FIRST_PAUSE_SECONDS;
            onState("live");
          } else if (message.type === "execution-end") {
            onState("ended");
            return message;
          } else if (message.seq === undefined) {
            if (message.type === "agent-delta") yield message;
          } else if (message.seq > after) {
            after = message.seq;
            yield message;
          }
        }
      }
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
      if (error.refusal) throw error.refusal;
    } finally {
      close();
    }
    onState("reconnecting");
    await pauseOrOnline(seconds * (0.8 + 0.4 * Math.random()), signal);
    seconds = Math.min(seconds * 2, LAST_PAUSE_SECONDS);
  }
}

/**
 * Waits, in a browser no longer than until the network is back.
 *
 * @param {number} seconds
 * @param {AbortSignal} [signal]
 */
async function pauseOrOnline(seconds, signal) {
  const done = new AbortController();
  const online = new Promise((resolve) => {
    globalThis.addEventListener?.("online", () => resolve(undefined), { signal: done.signal, once: true });
  });
  try {
    await Promise.race([pause(seconds, signal), online]);
  } finally {
    done.abort();
  }
}

/**
 * Opens the event socket, authenticates, and subscribes. The key goes in the first message, never into the address.
 *
 * @param {import("./types.js").FollowOptions} options
 * @param {number} after
 * @param {Inbox} inbox
 * @returns {() => void} closes the socket
 */
function openSocket({ url, apiKey, executionId, deltas = false, signal, WebSocket: Socket }, after, inbox) {
  const socket = new (Socket ?? globalThis.WebSocket)(url);
  let heard = Date.now();
  const send = (/** @type {object} */ message) => socket.send(JSON.stringify(message));
  const watch = setInterval(() => {
    const silence = (Date.now() - heard) / 1000;
    if (silence > SILENCE_SECONDS + ANSWER_SECONDS) stop(new Closed("silent"));
    else if (silence > SILENCE_SECONDS && socket.readyState === 1) send({ type: "ping" });
  }, 5000);
  const onAbort = () => stop(signal?.reason);
  /** @param {Error} error */
  function stop(error) {
    clearInterval(watch);
    signal?.removeEventListener("abort", onAbort);
    inbox.close(error);
    if (socket.readyState < 2) socket.close();
  }
  if (signal?.aborted) stop(signal.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  socket.onopen = () => {
    if (apiKey) send({ type: "auth", token: apiKey });
    send({ type: "subscribe", executionId, afterSeq: after, deltas });
  };
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    const message = JSON.parse(data);
    if (message.type !== "error") inbox.put(message);
    else stop(new Closed(message.message, refusalOf(message)));
  };
  socket.onclose = ({ code, reason }) => {
    const refused = REFUSED[/** @type {keyof typeof REFUSED} */ (code)];
    stop(new Closed(reason, refused ? problem(code - 4000, refused, reason) : undefined));
  };
  return () => stop(new Closed("left"));
}

/** @param {{ code: string, message: string }} message */
function refusalOf({ code, message }) {
  return code === "database-unavailable" ? undefined : problem(code.endsWith("not-found") ? 404 : 422, code, message);
}

/**
 * @param {number} status
 * @param {string} code
 * @param {string} detail
 */
function problem(status, code, detail) {
  return new ApiError({ status, code, title: code, detail: detail || "The event socket refused the key." });
}
