/** The current time, for what runs, and values that change too often to be drawn each time. */
import { useEffect, useRef, useState } from "./html.js";

/**
 * The time in milliseconds, renewed while `isTicking`.
 *
 * @param {boolean} isTicking
 * @param {number} [everyMs]
 */
export function useNow(isTicking, everyMs = 500) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!isTicking) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => document.visibilityState === "visible" && setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [isTicking, everyMs]);
  return now;
}

/**
 * A value that is renewed at most every `everyMs` while it is live, and at once when it no longer is.
 *
 * @template T
 * @param {T} value
 * @param {boolean} isLive
 * @param {number} [everyMs]
 * @returns {T}
 */
export function useCalm(value, isLive, everyMs = 300) {
  const [shown, setShown] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const show = () => {
      last.current = performance.now();
      setShown(value);
    };
    const wait = last.current + everyMs - performance.now();
    if (!isLive || wait <= 0) {
      show();
      return undefined;
    }
    const timer = setTimeout(show, wait);
    return () => clearTimeout(timer);
  }, [value, isLive]);
  return isLive ? shown : value;
}
