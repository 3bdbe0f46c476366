/** The reviews that wait for a person, and their number for the badge in the navigation. */
import { effect, signal } from "./html.js";
import { session } from "./session.js";

const EVERY_MS = 20_000;
const PAGE = 100;
/** The review statuses of ended work on which no decision stands. */
const WAITING = ["pending", "revision-needed"];

/** @type {import("./types.js").Signal<number>} */
export const waitingReviews = signal(0);

/**
 * Reads the ended runs that no one has approved or rejected, the latest first.
 *
 * @param {AbortSignal} [abort]
 * @returns {Promise<any[]>}
 */
export async function readWaiting(abort) {
  const client = session.value?.client;
  if (!client) return [];
  const pages = await Promise.all(
    WAITING.map((reviewStatus) => client.get("/executions", { reviewStatus, status: "completed", limit: PAGE }, abort)),
  );
  const found = pages.flatMap((page) => page.items).filter((one) => one.executionId === one.rootExecutionId);
  waitingReviews.value = found.length;
  return found.sort((a, b) => (b.completedAt ?? "").localeCompare(a.completedAt ?? ""));
}

effect(() => {
  if (!session.value) {
    waitingReviews.value = 0;
    return undefined;
  }
  const count = () => document.visibilityState === "visible" && readWaiting().catch(() => {});
  const first = setTimeout(count, 300);
  const timer = setInterval(count, EVERY_MS);
  return () => {
    clearTimeout(first);
    clearInterval(timer);
  };
});
