/** The events of a run, newest first, by kind. */
import { Empty } from "../../components/states.js";
import { VirtualList } from "../../components/virtual-list.js";
import { counted, time } from "../../lib/format.js";
import { html, useMemo, useState } from "../../lib/html.js";
import { agentName } from "../../lib/names.js";
import { isPlainClick } from "../../lib/router.js";
import { eventText, isCode } from "../../model/event-text.js";
import { EVENT_GROUPS } from "../../model/run-state.js";

const ROW_HEIGHT = 33;

/**
 * @param {{ run: import("../../model/run-state.js").RunState, version: number, state: string, isGone: boolean, selectedSeq: number | null, onSelect: (event: any) => void }} props
 */
export function Events({ run, version, state, isGone, selectedSeq, onSelect }) {
  const [group, setGroup] = useState("All");
  const [isNewestFirst, setNewestFirst] = useState(true);
  /** @type {any[]} */
  const shown = useMemo(() => (group === "All" ? run.events : run.events.filter((event) => EVENT_GROUPS[group](event.type))), [run, version, group]);
  const at = (/** @type {number} */ index) => shown[isNewestFirst ? shown.length - 1 - index : index];
  const selectedPlace = selectedSeq === null ? -1 : shown.findIndex((event) => event.seq === selectedSeq);
  const reveal = selectedPlace < 0 ? null : isNewestFirst ? shown.length - 1 - selectedPlace : selectedPlace;
  const noEvents = isGone ? "The events are gone" : "No events yet";
  const word = isGone ? "Unreadable" : { live: "Live", ended: "Complete", connecting: "Connecting", reconnecting: "Reconnecting" }[state] ?? state;

  return html`<section class="events" aria-label="Events of the run">
    <div class="events-bar">
      <h2>Events</h2>
      <div class="chips" role="group" aria-label="Kind of event">
        ${Object.keys(EVENT_GROUPS).map((name) => html`<button class="chip" aria-pressed=${name === group ? "true" : "false"} onClick=${() => setGroup(name)}>${name}</button>`)}
      </div>
      <button class="chip push" onClick=${() => setNewestFirst(!isNewestFirst)}>${isNewestFirst ? "Newest first" : "Oldest first"}</button>
      <span class="meta live"><span class=${`dot ${state === "live" ? "live" : ""}`}></span>${word} · ${counted(run.events.length, "event")}</span>
    </div>
    <div class="events-frame">
      ${shown.length === 0
        ? html`<${Empty} icon="runs" title=${run.events.length ? "No event of this kind" : noEvents} />`
        : html`<${VirtualList} label="Events" count=${shown.length} rowHeight=${ROW_HEIGHT} rowKey=${(/** @type {number} */ index) => at(index).seq} reveal=${reveal}
            row=${(/** @type {number} */ index) => html`<${EventRow} event=${at(index)} isSelected=${at(index).seq === selectedSeq} onSelect=${onSelect} />`} />`}
    </div>
  </section>`;
}

/** @param {{ event: any, isSelected: boolean, onSelect: (event: any) => void }} props */
function EventRow({ event, isSelected, onSelect }) {
  const address = `/runs/${event.rootExecutionId}?event=${event.seq}`;
  return html`<a href=${address} class=${`event ${isSelected ? "selected" : ""}`} aria-current=${isSelected ? "true" : undefined} onClick=${(/** @type {MouseEvent} */ click) => isPlainClick(click) && (click.preventDefault(), onSelect(event))}>
    <span class="seq number">${event.seq}</span>
    <time class="number" datetime=${event.timestamp}>${time(event.timestamp)}</time>
    <span class="clip who">${agentName(event.agentId)}</span>
    <span class="type clip">${event.type}</span>
    <span class=${`clip text ${isCode(event) ? "code" : ""}`}>${eventText(event)}</span>
  </a>`;
}
