/** Which executions of two runs belong together, and how two figures differ. */

const MIN_SHARE = 0.02;

/** @typedef {{ key: string, agent: string, number: number, left: any, right: any }} Pair */

/**
 * The executions below two roots by their agent; an agent that occurs several times is numbered.
 *
 * @param {any[]} left
 * @param {any[]} right
 * @returns {Pair[]}
 */
export function pairsOf(left, right) {
  /** @type {Map<string, Pair>} */
  const pairs = new Map();
  for (const [side, members] of /** @type {["left" | "right", any[]][]} */ ([["left", left], ["right", right]])) {
    /** @type {Map<string, number>} */
    const seen = new Map();
    for (const one of members) {
      const agent = one.agent ?? one.executionId;
      const number = (seen.get(agent) ?? 0) + 1;
      seen.set(agent, number);
      const key = number === 1 ? agent : `${agent}.${number}`;
      const pair = pairs.get(key) ?? { key, agent, number, left: null, right: null };
      pair[side] = one;
      pairs.set(key, pair);
    }
  }
  return [...pairs.values()];
}

/**
 * The text that a run produced: its report, else its answer.
 *
 * @param {any} run
 * @returns {string}
 */
export const outputText = (run) => run?.output?.report?.text ?? run?.output?.text ?? "";

/**
 * The difference of two figures in words, and from 2 percent on whether it is better.
 *
 * @param {number | null | undefined} left
 * @param {number | null | undefined} right
 * @param {(value: number) => string} show
 * @param {"more" | "less"} [better]
 */
export function differenceOf(left, right, show, better) {
  if (left === null || left === undefined || right === null || right === undefined) return { text: "–", tone: "" };
  const difference = right - left;
  if (difference === 0 || show(left) === show(right)) return { text: "=", tone: "" };
  const sign = difference > 0 ? "+" : "−";
  const share = left === 0 ? "" : ` (${sign}${Math.round(Math.abs(difference / left) * 100)}%)`;
  const text = `${sign}${show(Math.abs(difference))}${share}`;
  if (!better || Math.abs(difference) < Math.abs(left) * MIN_SHARE) return { text, tone: "" };
  const isBetter = (better === "more") === difference > 0;
  return { text: `${text}, ${isBetter ? "better" : "worse"}`, tone: isBetter ? "good" : "poor" };
}
