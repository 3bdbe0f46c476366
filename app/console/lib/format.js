/** Numbers, money, times and durations as texts. */

const whole = new Intl.NumberFormat("en-US");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-US", { month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat("en-US", { dateStyle: "medium", timeStyle: "medium" });
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @param {number | null | undefined} value */
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/**
 * A number of things: "1 run", "3 runs".
 *
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** A number for an axis, such as "12.5K". @param {number} value */
export const compact = (value) => short.format(value);

/**
 * Dollars with the digits that matter, "–" for an unknown price.
 *
 * @param {number | null | undefined} value
 */
export function dollars(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  if (Math.abs(value) < 0.00005) return "<$0.0001";
  return `$${value.toFixed(Math.abs(value) < 1 ? 4 : 2)}`;
}

/** @param {number | null | undefined} share 0 to 1 */
export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)}%`);

/** @param {number | null | undefined} value 0 to 100 */
export const score = (value) => (value === null || value === undefined ? "–" : String(Math.round(value)));

/**
 * A duration such as "230 ms", "4.2 s", "1 m 42 s", "2 h 5 m".
 *
 * @param {number | null | undefined} milliseconds
 */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "–";
  const value = Math.max(0, milliseconds);
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < MINUTE) return `${(value / 1000).toFixed(1)} s`;
  if (value < HOUR) return `${Math.floor(value / MINUTE)} m ${Math.floor((value % MINUTE) / 1000)} s`;
  return `${Math.floor(value / HOUR)} h ${Math.floor((value % HOUR) / MINUTE)} m`;
}

/** @param {string | null | undefined} moment in ISO 8601 */
const isMoment = (moment) => Boolean(moment) && !Number.isNaN(Date.parse(String(moment)));

/**
 * The time of a moment, with its milliseconds.
 *
 * @param {string | null | undefined} moment in ISO 8601
 */
export function time(moment) {
  if (!moment || !isMoment(moment)) return "–";
  const date = new Date(moment);
  return `${clock.format(date)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {string | null | undefined} moment in ISO 8601 */
export const fullTime = (moment) => (moment && isMoment(moment) ? full.format(new Date(moment)) : "–");

/**
 * How long ago a moment was: "now", "5 min ago", "3 h ago", then the day.
 *
 * @param {string | null | undefined} moment in ISO 8601
 * @param {number} [now] in milliseconds
 */
export function ago(moment, now = Date.now()) {
  if (!moment || !isMoment(moment)) return "–";
  const age = now - new Date(moment).getTime();
  if (age < 10_000) return "now";
  if (age < MINUTE) return `${Math.floor(age / 1000)} s ago`;
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min ago`;
  if (age < DAY) return `${Math.floor(age / HOUR)} h ago`;
  return day.format(new Date(moment));
}

/** @param {any} value */
export const json = (value) => JSON.stringify(value, null, 2) ?? "";

/**
 * The first line of a text, without Markdown's marks.
 *
 * @param {string | null | undefined} text
 * @param {number} [length]
 */
export function firstLine(text, length = 200) {
  const line = (text ?? "").split("\n").find((one) => one.trim()) ?? "";
  const plain = line.replace(/^[#>*\-\s]+/, "").replace(/[*_`]{1,3}/g, "");
  return plain.length > length ? `${plain.slice(0, length)}…` : plain;
}
