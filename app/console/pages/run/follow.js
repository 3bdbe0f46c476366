/** Keeping a run's state up to date: its records, then its events without a gap, for as long as the page is open. */
import { pause } from "../../client/http.js";
import { useEffect, useRef, useState } from "../../lib/html.js";
import { isReconnecting } from "../../lib/online.js";
import { readAll } from "../../lib/names.js";
import { api } from "../../lib/session.js";
import { RunState } from "../../model/run-state.js";

const REOPENED_CHECK_MS = 5000;
const RECORDS_PAUSE_MS = 400;
const FOLDING_MS = 600;

/**
 * Follows a run. The state changes in place; `version` counts its changes, at most one a frame.
 *
 * @param {string} rootId
 * @returns {{ run: RunState, version: number, root: any, error?: Error, state: string, refresh: () => void }}
 */
export function useRun(rootId) {
  const [run, setRun] = useState(() => new RunState(rootId));
  const [shown, setShown] = useState({ version: 0, root: /** @type {any} */ (null), state: "connecting", error: /** @type {Error | undefined} */ (undefined) });
  const follower = useRef(/** @type {Follower | null} */ (null));

  useEffect(() => {
    const state = new RunState(rootId);
    setRun(state);
    const following = new Follower(state, (changes) => setShown((/** @type {any} */ old) => ({ ...old, ...changes, version: old.version + 1 })));
    follower.current = following;
    following.start();
    return () => following.stop();
  }, [rootId]);

  return { run, ...shown, refresh: () => follower.current?.refresh() };
}

/** Follows one run until it is stopped. */
class Follower {
  /**
   * @param {RunState} run
   * @param {(changes: any) => void} onChange
   */
  constructor(run, onChange) {
    this.run = run;
    this.onChange = onChange;
    this.abort = new AbortController();
    this.isFollowing = false;
    this.frame = 0;
    this.timer = 0;
    this.recordsTimer = 0;
    /** The record of the root, once it was read. @type {any} */
    this.root = null;
    this.onFolded = () => {};
  }

  /** Reads the records and opens the socket at once, and shows the run when its stored events are folded, or soon. */
  async start() {
    const records = this.#readRecords();
    const folded = new Promise((resolve) => {
      this.onFolded = () => resolve(undefined);
    });
    this.#follow(records);
    try {
      await records;
    } catch (error) {
      this.#show({ error });
      return;
    }
    if (this.run.lastSeq < this.run.recordedSeq) await Promise.race([folded, pause(FOLDING_MS)]);
    this.#show({ root: this.root });
    this.timer = setInterval(() => this.#checkReopened(), REOPENED_CHECK_MS);
  }

  stop() {
    this.abort.abort(new DOMException("left", "AbortError"));
    clearInterval(this.timer);
    clearTimeout(this.recordsTimer);
    cancelAnimationFrame(this.frame);
    isReconnecting.value = false;
  }

  /** Reads the records again, after an action. */
  async refresh() {
    try {
      await this.#readRecords();
      this.#show({ root: this.root, error: undefined });
      this.#follow();
    } catch (error) {
      this.#show({ error });
    }
  }

  async #readRecords() {
    const { rootId } = this.run;
    const [root, members] = await Promise.all([
      api().get(`/executions/${encodeURIComponent(rootId)}`, undefined, this.abort.signal),
      readAll("/executions", { rootExecutionId: rootId, sort: "createdAt" }),
    ]);
    this.run.takeRecords([...members, root]);
    this.root = root;
  }

  /**
   * Folds the events from behind the last one until the end of the run.
   *
   * @param {Promise<void>} [records] what the events wait for; the socket does not
   */
  async #follow(records) {
    if (this.isFollowing) return;
    this.isFollowing = true;
    const onState = (/** @type {string} */ state) => {
      isReconnecting.value = state === "reconnecting";
      this.#show({ state });
    };
    const left = new AbortController();
    const signal = AbortSignal.any([this.abort.signal, left.signal]);
    const events = api().run(this.run.rootId).events({ after: this.run.lastSeq, signal, onState });
    try {
      const first = events.next();
      first.catch(() => {}); // reported below, after the records
      await records;
      for (let next = await first; !next.done; next = await events.next()) {
        this.run.take(next.value);
        if (this.run.lastSeq >= this.run.recordedSeq) this.onFolded();
        this.#changed();
      }
      if (this.run.lastSeq > this.run.recordedSeq || !this.root.completedAt) await this.#readRecords();
      this.#show({ root: this.root, error: undefined });
    } catch (error) {
      if (!this.abort.signal.aborted) this.#show({ error });
    } finally {
      left.abort(new DOMException("left", "AbortError"));
      this.onFolded();
      this.isFollowing = false;
    }
  }

  /** Shows the state in the next frame, and reads the records of executions that are new in it. */
  #changed() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#show({});
    });
    if (this.run.hasUnknown && !this.recordsTimer) {
      this.recordsTimer = setTimeout(async () => {
        this.recordsTimer = 0;
        await this.#readRecords().then(() => this.#show({ root: this.root, error: undefined }), () => {});
      }, RECORDS_PAUSE_MS);
    }
  }

  /** A person's review, here or elsewhere, can open an ended run again. */
  async #checkReopened() {
    if (this.isFollowing || document.visibilityState !== "visible") return;
    const found = await api().get(`/executions/${encodeURIComponent(this.run.rootId)}`, { omit: "params,output,runState" }, this.abort.signal).catch(() => null);
    if (found && (found.status === "running" || found.lastSeq > this.run.lastSeq)) this.refresh();
  }

  /** @param {any} changes */
  #show(changes) {
    if (!this.abort.signal.aborted) this.onChange(changes);
  }
}
