/** Columns over days. The table beside it has the same numbers for those who cannot see it. */
import { html } from "../lib/html.js";

const MAX_LABELS = 8;

/** @param {{ label: string, points: { key: string, value: number, text: string }[], max?: number }} props */
export function Columns({ label, points, max }) {
  const top = max ?? Math.max(1e-12, ...points.map((point) => point.value));
  const step = Math.ceil(points.length / MAX_LABELS);
  return html`<figure class="stack-2" role="img" aria-label=${`${label}: ${points.map((point) => `${point.key} ${point.text}`).join(", ")}`}>
    <div class="chart">
      ${points.map((point) => html`<div key=${point.key} title=${`${point.key}: ${point.text}`}><i style=${{ height: `${(point.value / top) * 100}%` }}></i></div>`)}
    </div>
    <div class="chart-labels">${points.map((point, index) => html`<span key=${point.key}>${index % step === 0 ? point.key.slice(5) : ""}</span>`)}</div>
  </figure>`;
}
