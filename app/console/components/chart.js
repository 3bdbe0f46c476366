/** Stacked columns over days, with an axis and a line that says what is pointed at; arrow keys move the pointer. */
import { html, useState } from "../lib/html.js";
import { everyDay, topOf } from "../model/days.js";
import { Empty } from "./states.js";

/** @typedef {{ key: string, values: number[], text: string }} Point one day: `key` is `YYYY-MM-DD`, `values` are those of the series */

const MAX_LABELS = 8;
const LINES = 4;

/**
 * @param {{ label: string, points: Point[], series: { name: string, tone: string }[], show: (value: number) => string, max?: number, mark?: { value: number, name: string }, empty: string, gap?: string }} props
 *   `mark` is a line across the chart; `gap` is what to say of a day without a point.
 */
export function Columns({ label, points, series, show, max, mark, empty, gap = "nothing" }) {
  const [place, setPlace] = useState(/** @type {number | null} */ (null));
  if (points.length === 0) return html`<${Empty} icon="usage" title=${empty} />`;
  const days = everyDay(points, gap);
  const sums = days.map((day) => day.values.reduce((sum, value) => sum + value, 0));
  const top = max ?? topOf(Math.max(...sums), LINES);
  const step = Math.ceil(days.length / MAX_LABELS);
  const pointed = place === null ? null : days[Math.min(place, days.length - 1)];
  const highest = sums.indexOf(Math.max(...sums));
  const summary = `${label}: ${days.length} ${days.length === 1 ? "day" : "days"} from ${days[0].key} to ${days[days.length - 1].key}, the highest ${days[highest].key} with ${days[highest].text}`;
  const onKeyDown = (/** @type {KeyboardEvent} */ event) => {
    const last = days.length - 1;
    const next = { ArrowRight: (place ?? -1) + 1, ArrowLeft: (place ?? days.length) - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    setPlace(Math.max(0, Math.min(last, next)));
  };
  return html`<figure class="stack-2" role="group" aria-label=${label} tabindex="0" onKeyDown=${onKeyDown} onMouseLeave=${() => setPlace(null)} onBlur=${() => setPlace(null)}>
    <div class="chart-frame" role="img" aria-label=${summary}>
      <div class="chart-axis" aria-hidden="true">${Array.from({ length: LINES + 1 }, (_, index) => html`<span key=${index} style=${{ bottom: `${(index / LINES) * 100}%` }}>${show((top * index) / LINES)}</span>`)}</div>
      <div class="chart">
        ${Array.from({ length: LINES }, (_, index) => html`<i key=${`line-${index}`} class="chart-line" style=${{ bottom: `${((index + 1) / LINES) * 100}%` }}></i>`)}
        ${mark && html`<i class="chart-mark" style=${{ bottom: `${(mark.value / top) * 100}%` }} title=${`${mark.name} ${show(mark.value)}`}></i>`}
        <div class="chart-columns">
          ${days.map((day, index) => html`<div key=${day.key} class=${`chart-column ${index === place ? "pointed" : ""}`} onMouseEnter=${() => setPlace(index)}>
            ${day.values.map((value, number) => html`<i class=${`chart-part ${series[number].tone}`} style=${{ height: `${(value / top) * 100}%` }}></i>`)}
          </div>`)}
        </div>
      </div>
      <div class="chart-labels" aria-hidden="true">${days.map((day, index) => html`<span key=${day.key}>${index % step === 0 ? day.key.slice(5) : ""}</span>`)}</div>
    </div>
    <figcaption class="chart-caption">
      ${series.length > 1 && series.map(({ name, tone }) => html`<span key=${name} class="chart-key"><i class=${`swatch ${tone}`}></i>${name}</span>`)}
      ${mark && html`<span class="chart-key"><i class="swatch chart-mark-key"></i>${mark.name}</span>`}
      <span class="meta push number" role="status" aria-label="Pointed at">${pointed ? `${pointed.key}: ${pointed.text}` : ""}</span>
    </figcaption>
  </figure>`;
}
