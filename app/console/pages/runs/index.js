/** `/runs` is the list, `/runs/{executionId}` a run. */
import { html } from "../../lib/html.js";
import { RunPage } from "../run/index.js";
import { RunList } from "./list.js";

/** @param {{ parts: string[] }} props */
export default function Runs({ parts }) {
  return parts[0] ? html`<${RunPage} key=${parts[0]} executionId=${parts[0]} />` : html`<${RunList} />`;
}
