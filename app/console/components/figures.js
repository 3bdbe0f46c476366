/** Large numbers in a row. */
import { html } from "../lib/html.js";

/** @param {{ figures: { title: string, value: any, note?: any }[] }} props */
export function Figures({ figures }) {
  return html`<dl class="figures">
    ${figures.map(({ title, value, note }) => html`<div class="figure" key=${title}><dt>${title}</dt><dd>${value}${note && html`<small>${note}</small>`}</dd></div>`)}
  </dl>`;
}
