/** One event with all its fields. */
import { Icon } from "../../components/icon.js";
import { Json } from "../../components/json.js";
import { Markdown } from "../../components/markdown.js";
import { Problem } from "../../components/states.js";
import { copy, readCommand } from "../../lib/clipboard.js";
import { fullTime } from "../../lib/format.js";
import { html } from "../../lib/html.js";
import { useLoad } from "../../lib/load.js";
import { api } from "../../lib/session.js";

/** @param {{ event: any, rootId: string, onClose: () => void }} props */
export function EventDetails({ event, rootId, onClose }) {
  const path = `/executions/${encodeURIComponent(rootId)}/events/${event.seq}`;
  const load = useLoad(async (signal) => (event.truncated ? api().get(path, undefined, signal) : event), [event.seq]);
  const full = load.data ?? event;
  const text = full.message ?? full.content ?? full.notes ?? full.reasoning ?? full.output?.text;
  return html`<section class="stack" aria-label=${`Event ${event.seq}`}>
    <div class="event-head">
      <h3>Event ${event.seq} · ${event.type}</h3>
      <button class="button plain push" onClick=${onClose}><${Icon} name="back" />Execution</button>
    </div>
    <div class="meta">${fullTime(event.timestamp)}${event.truncated ? ` · ${event.size} bytes` : ""}</div>
    ${load.error && html`<${Problem} error=${load.error} onRetry=${load.reload} />`}
    ${typeof text === "string" && text && html`<${Markdown} text=${text} />`}
    ${event.type === "tool-call" && html`<span class="meta">Input of ${event.toolName}</span><${Json} value=${full.input} label="Input" />`}
    ${event.type === "tool-result" && html`<span class="meta">Output of ${event.toolName}</span><${Json} value=${full.output} label="Output" />`}
    <div class="actions"><button class="button plain" onClick=${() => copy(readCommand(`/api/v1${path}`), "Command")}><${Icon} name="copy" />Copy as curl</button></div>
    <${Json} value=${full} label="Event" />
  </section>`;
}
