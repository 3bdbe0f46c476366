/** The bars of an execution in the timeline: model calls, tools, and what is in progress. */
import { duration } from "../lib/format.js";

/** @typedef {import("./run-state.js").Segment} Segment */

const MERGED_FROM = 150;

/**
 * The bars of an execution: reported calls, tools, and the call in progress.
 *
 * @param {import("./run-state.js").ExecutionState} one
 * @param {number} now
 * @returns {Segment[]}
 */
export function barsOf(one, now) {
  const bars = [...one.segments];
  for (const tool of one.tools) bars.push({ kind: "tool", start: tool.start, end: tool.end ?? now, label: tool.name, seq: tool.seq, failed: tool.failed, open: tool.end === null });
  if (one.isRunning && one.callingSince !== null) bars.push({ kind: "model", start: one.callingSince, end: now, label: "Model call in progress", seq: 0, open: true });
  return bars;
}

/**
 * The same bars, with those of a kind joined that are too close to distinguish: a lane stays drawable with any number.
 *
 * @param {Segment[]} bars
 * @param {number} gap in milliseconds
 * @returns {Segment[]}
 */
export function mergedBars(bars, gap) {
  if (bars.length < MERGED_FROM) return bars;
  /** @type {Map<string, Segment & { count: number }>} */
  const last = new Map();
  const merged = [];
  for (const bar of [...bars].sort((a, b) => a.start - b.start)) {
    const key = `${bar.kind} ${Boolean(bar.failed)} ${Boolean(bar.open)}`;
    const before = last.get(key);
    if (before && bar.start - before.end <= gap) {
      before.end = Math.max(before.end, bar.end);
      before.count += 1;
      before.label = `${before.count} × ${bar.kind}`;
      continue;
    }
    const next = { ...bar, count: 1 };
    last.set(key, next);
    merged.push(next);
  }
  return merged;
}

/** The time of each kind in words. @param {Segment[]} bars */
export function summaryOf(bars) {
  const kinds = { model: 0, tool: 0, judge: 0, review: 0 };
  for (const bar of bars) kinds[bar.kind] += bar.end - bar.start;
  const parts = Object.entries(kinds).filter(([, spent]) => spent > 0).map(([kind, spent]) => `${kind} ${duration(spent)}`);
  return parts.join(", ") || "nothing yet";
}
