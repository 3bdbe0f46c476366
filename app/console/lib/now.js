/** The current time, for what runs. */
import { useEffect, useState } from "./html.js";

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
