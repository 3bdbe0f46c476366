/** What waits for a person, and its number for the badge in the navigation. */
import { effect, signal } from "./html.js";
import { session } from "./session.js";

const EVERY_MS = 20_000;
const PAGE = 50;

/** The kinds of decisions that runs wait for, as `GET /executions?awaiting=` names them. */
export const AWAITING = ["review"];

/** The number of waiting runs by kind. @type {import("./types.js").Signal<Record<string, number>>} */
export const waiting = signal({});

/**
 * Reads a page of the runs that wait for a kind of decision, the latest first.
 *
 * @param {string} awaiting
 * @param {string} [cursor]
 * @param {AbortSignal} [abort]
 * @returns {Promise<{ items: any[], total: number, nextCursor: string | null }>}
 */
export async function readWaiting(awaiting, cursor, abort) {
  const page = await session.value?.client.get("/executions", { awaiting, limit: PAGE, cursor }, abort);
  if (!cursor) waiting.value = { ...waiting.value, [awaiting]: page.total };
  return page;
}

/** Counts again what waits, after a decision and now and then. */
export async function countWaiting() {
  const client = session.value?.client;
  if (!client) return;
  const pages = await Promise.all(AWAITING.map((awaiting) => client.get("/executions", { awaiting, limit: 1 })));
  waiting.value = Object.fromEntries(AWAITING.map((awaiting, index) => [awaiting, pages[index].total]));
}

effect(() => {
  if (!session.value) {
    waiting.value = {};
    return undefined;
  }
  const count = () => document.visibilityState === "visible" && countWaiting().catch(() => {});
  const first = setTimeout(count, 300);
  const timer = setInterval(count, EVERY_MS);
  return () => {
    clearTimeout(first);
    clearInterval(timer);
  };
});
