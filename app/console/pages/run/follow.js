/** Keeping a run's state up to date: its records, then its events without a gap, for as long as the page is open. */
import { useEffect, useRef, useState } from "../../lib/html.js";
import { isReconnecting } from "../../lib/online.js";
import { readAll } from "../../lib/names.js";
import { api } from "../../lib/session.js";
import { RunState } from "../../model/run-state.js";

const REOPENED_CHECK_MS = 5000;
const RECORDS_PAUSE_MS = 400;

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
  }

  async start() {
    try {
      await this.#readRecords();
    } catch (error) {
      this.#show({ error });
      return;
    }
    this.#follow();
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
    this.#show({ root, error: undefined });
  }

  async #follow() {
    if (this.isFollowing) return;
    this.isFollowing = true;
    const onState = (/** @type {string} */ state) => {
      isReconnecting.value = state === "reconnecting";
      this.#show({ state });
    };
    const events = api().run(this.run.rootId).events({ after: this.run.lastSeq, signal: this.abort.signal, onState });
    try {
      for await (const event of events) {
        this.run.take(event);
        this.#changed();
      }
      await this.#readRecords();
    } catch (error) {
      if (!this.abort.signal.aborted) this.#show({ error });
    } finally {
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
        await this.#readRecords().catch(() => {});
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
