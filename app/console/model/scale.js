/** The ticks of a time axis. */

const STEPS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400];
const MAX_TICKS = 7;
const MINUTE = 60;
const HOUR = 3600;

/**
 * Round places on an axis, from 0, with their labels.
 *
 * @param {number} length in milliseconds
 * @returns {{ at: number, label: string }[]}
 */
export function ticksOf(length) {
  const seconds = length / 1000;
  const step = STEPS.find((one) => seconds / one <= MAX_TICKS) ?? Math.ceil(seconds / MAX_TICKS);
  const ticks = [];
  for (let index = 0; index * step < seconds * 0.97; index += 1) {
    const at = index * step;
    ticks.push({ at: at * 1000, label: labelOf(at, step) });
  }
  return ticks;
}

/**
 * @param {number} at in seconds
 * @param {number} step in seconds
 */
function labelOf(at, step) {
  if (step < 0.1) return `${Math.round(at * 1000)} ms`;
  if (at === 0) return "0 s";
  if (step < 1) return at.toFixed(1);
  if (at < MINUTE || step < 30) return String(at);
  if (at < HOUR) return `${Math.floor(at / MINUTE)}:${String(Math.round(at % MINUTE)).padStart(2, "0")}`;
  return `${Math.floor(at / HOUR)}:${String(Math.floor((at % HOUR) / MINUTE)).padStart(2, "0")} h`;
}
