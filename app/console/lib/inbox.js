/** Everything that is waiting for a person, and its count for the badge in the navigation. */
import { effect, signal } from "./html.js";
import { session } from "./session.js";

const EVERY_MS = 20_000;
const PAGE = 50;

/** Where the API lists each kind of what waits, in the order of the inbox. @type {Record<string, { path: string, query: any }>} */
const LISTS = {
  approval: { path: "/approvals", query: { status: "pending", sort: "requestedAt" } },
  review: { path: "/executions", query: { awaiting: "review" } },
};

/** The number of what waits by kind, empty until it was counted. @type {import("./types.js").Signal<Record<string, number>>} */
export const waiting = signal({});

/**
 * Reads the first pages of what waits: approvals, the oldest first, or runs to review, the latest first.
 *
 * @param {"approval" | "review"} kind
 * @param {number} pages
 * @param {AbortSignal} [abort]
 * @returns {Promise<{ items: any[], total: number, hasMore: boolean }>}
 */
export async function readWaiting(kind, pages, abort) {
  const { path, query } = LISTS[kind];
  const read = (/** @type {string | undefined} */ cursor) => session.value?.client.get(path, { ...query, limit: PAGE, cursor }, abort);
  let page = await read(undefined);
  const { total, items } = page;
  waiting.value = { ...waiting.value, [kind]: total };
  for (let number = 1; number < pages && page.nextCursor; number += 1) {
    page = await read(page.nextCursor);
    items.push(...page.items);
  }
  return { total, items, hasMore: page.nextCursor !== null };
}

/** Counts again what waits, after a decision and now and then. */
export async function countWaiting() {
  const client = session.value?.client;
  if (!client) return;
  const lists = Object.entries(LISTS);
  const pages = await Promise.all(lists.map(([, { path, query }]) => client.get(path, { ...query, limit: 1 })));
  waiting.value = Object.fromEntries(lists.map(([kind], index) => [kind, pages[index].total]));
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
