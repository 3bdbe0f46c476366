/** Days of a chart. */

/** @typedef {import("../components/chart.js").Point} Point */

const DAY_MS = 86_400_000;
const MAX_DAYS = 400;

/**
 * The points with a point for each day between them; too long a time is left with its gaps.
 *
 * @param {Point[]} points in the order of their days
 * @param {string} gap the text of a day without a point
 * @returns {Point[]}
 */
export function everyDay(points, gap) {
  const known = new Map(points.map((point) => [point.key, point]));
  const first = Date.parse(points[0].key);
  const last = Date.parse(points[points.length - 1].key);
  if (!(last >= first) || (last - first) / DAY_MS > MAX_DAYS) return points;
  const days = [];
  for (let day = first; day <= last; day += DAY_MS) {
    const key = new Date(day).toISOString().slice(0, 10);
    days.push(known.get(key) ?? { key, values: points[0].values.map(() => 0), text: gap });
  }
  return days;
}

/**
 * A round number at or above the highest value, so that the lines of an axis have round values.
 *
 * @param {number} highest
 * @param {number} lines
 */
export function topOf(highest, lines) {
  if (!(highest > 0)) return lines;
  const size = 10 ** Math.floor(Math.log10(highest / lines));
  const step = [1, 2, 2.5, 5, 10].find((one) => one * size * lines >= highest) ?? 10;
  return step * size * lines;
}
