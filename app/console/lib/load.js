/** Reading from the API in a component: data, error, and whether it loads. */
import { useCallback, useEffect, useRef, useState } from "./html.js";
import { session, signOut } from "./session.js";

/**
 * Loads data when `key` changes, and again every `everyMs` while the page is visible.
 *
 * Later data replaces earlier data without a loading state in between, so that nothing flickers.
 *
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} read
 * @param {any[]} key
 * @param {{ everyMs?: number }} [options]
 * @returns {{ data: T | undefined, error: Error | undefined, isLoading: boolean, reload: () => Promise<void>, set: (data: T) => void }}
 */
export function useLoad(read, key, { everyMs } = {}) {
  const [state, setState] = useState(/** @type {any} */ ({ isLoading: true }));
  const current = useRef(0);
  const abort = useRef(/** @type {AbortController | undefined} */ (undefined));

  const load = useCallback(async () => {
    const turn = ++current.current;
    abort.current?.abort();
    abort.current = new AbortController();
    try {
      const data = await read(abort.current.signal);
      if (turn === current.current) setState({ data, isLoading: false });
    } catch (error) {
      if (turn !== current.current) return;
      if (/** @type {any} */ (error).status === 401 && session.value) signOut();
      setState((/** @type {any} */ old) => ({ data: old.data, error, isLoading: false }));
    }
  }, key);

  useEffect(() => {
    setState((/** @type {any} */ old) => ({ ...old, isLoading: true }));
    load();
    return () => {
      current.current += 1;
      abort.current?.abort();
    };
  }, [load]);

  useEffect(() => {
    if (!everyMs) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && load(), everyMs);
    return () => clearInterval(timer);
  }, [load, everyMs]);

  const set = useCallback((/** @type {T} */ data) => setState({ data, isLoading: false }), []);
  return { ...state, reload: load, set };
}
