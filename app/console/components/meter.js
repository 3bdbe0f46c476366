/** A bar that shows a share of a whole. */
import { html } from "../lib/html.js";

/** @param {{ label: string, value: number, max?: number, tone?: string }} props */
export function Meter({ label, value, max = 1, tone = "" }) {
  const share = Math.max(0, Math.min(1, max ? value / max : 0));
  return html`<div class=${`meter ${tone}`} role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax=${max} aria-valuenow=${value}>
    <i style=${{ width: `${share * 100}%` }}></i>
  </div>`;
}
