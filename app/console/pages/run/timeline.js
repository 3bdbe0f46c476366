/** The tree of executions with a lane for each: where its time went. */
import { Status, statusWord } from "../../components/status.js";
import { Icon } from "../../components/icon.js";
import { duration } from "../../lib/format.js";
import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../../lib/html.js";
import { agentName, departmentName } from "../../lib/names.js";
import { barsOf, mergedBars, summaryOf } from "../../model/bars.js";
import { ticksOf } from "../../model/scale.js";

const LEGEND = [["model", "Model"], ["tool", "Tool"], ["judge", "Judge"], ["review", "Review"], ["wait", "Waiting"]];
const MIN_WIDTH = 0.25;
const MAX_BARS = 600;
const FOLDED_FROM = 60;
const CHUNKED_FROM = 100;
const CHUNK = 50;
const ROW_HEIGHT = 34;

/** @typedef {import("../../model/run-state.js").ExecutionState} ExecutionState */
/** @typedef {{ start: number, length: number, now: number, isLive: boolean }} Scale */

/**
 * The rows that are shown: depth first, without what is below a folded one.
 *
 * @param {ExecutionState} root
 * @param {Map<string, ExecutionState[]>} below
 * @param {Set<string>} folded
 */
function rowsOf(root, below, folded) {
  /** @type {{ one: ExecutionState, level: number, place: number, size: number, hasChildren: boolean }[]} */
  const rows = [];
  const add = (/** @type {ExecutionState} */ one, /** @type {number} */ level, /** @type {number} */ place, /** @type {number} */ size) => {
    const children = below.get(one.id) ?? [];
    rows.push({ one, level, place, size, hasChildren: children.length > 0 });
    if (!folded.has(one.id)) children.forEach((child, index) => add(child, level + 1, index + 1, children.length));
  };
  add(root, 1, 1, 1);
  return rows;
}

/**
 * @param {{ run: import("../../model/run-state.js").RunState, below: Map<string, ExecutionState[]>, version: number, now: number, selectedId: string, onSelect: (id: string) => void }} props
 */
export function Timeline({ run, below, version, now, selectedId, onSelect }) {
  const [folded, setFolded] = useState(() => new Set());
  const grid = useRef(/** @type {HTMLElement | null} */ (null));
  /** @type {ReturnType<typeof rowsOf>} */
  const rows = useMemo(() => rowsOf(run.root, below, folded), [below, folded, run]);
  const length = Math.max((run.end ?? now) - run.start, run.end === null ? 1000 : 10);
  const { start } = run;
  const isLive = run.end === null;
  // The same objects as long as they say the same: rows whose execution has not changed are then not drawn again.
  const scale = useMemo(() => ({ start, length, now, isLive }), [start, length, now, isLive]);
  const ticks = useMemo(() => ticksOf(length), [length]);

  useEffect(() => {
    if (run.executions.size > FOLDED_FROM && below.size > 2) setFolded(new Set([...below.keys()].filter((id) => id !== run.rootId)));
  }, [run.executions.size > FOLDED_FROM]);

  const fold = useCallback((/** @type {string} */ id, /** @type {boolean} */ isFolded) => {
    setFolded((/** @type {Set<string>} */ old) => {
      const next = new Set(old);
      if (isFolded) next.add(id);
      else next.delete(id);
      return next;
    });
  }, []);
  const move = (/** @type {KeyboardEvent} */ event) => {
    const place = rows.findIndex((row) => row.one.id === selectedId);
    const row = rows[place];
    const target = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (target !== undefined) focusRow(rows[Math.max(0, Math.min(rows.length - 1, target))]?.one.id);
    else if (event.key === "ArrowRight" && row?.hasChildren) fold(row.one.id, false);
    else if (event.key === "ArrowLeft" && row?.hasChildren) fold(row.one.id, true);
    else return;
    event.preventDefault();
  };
  const wanted = useRef(/** @type {string | null} */ (null));
  const focusRow = (/** @type {string} */ id) => {
    wanted.current = id;
    onSelect(id);
  };
  useLayoutEffect(() => {
    if (wanted.current !== selectedId) return;
    wanted.current = null;
    /** @type {HTMLElement | null | undefined} */ (grid.current?.querySelector(`[data-id="${CSS.escape(selectedId)}"]`))?.focus();
  }, [selectedId]);
  const rowOf = (/** @type {typeof rows[number]} */ row) => html`<${Row} key=${row.one.id} ...${row} version=${row.one.version} scale=${scale} ticks=${ticks} isFolded=${folded.has(row.one.id)} isSelected=${row.one.id === selectedId} onSelect=${onSelect} onFold=${fold} />`;

  return html`<section aria-label="Timeline" class="timeline">
    <div class="legend" aria-hidden="true">${LEGEND.map(([kind, title]) => html`<span><i class=${`swatch ${kind}`}></i>${title}</span>`)}</div>
    <div class="axis" aria-hidden="true">
      <span>Agent</span>
      <span class="scale">${ticks.map((/** @type {{ at: number, label: string }} */ tick) => html`<span style=${{ left: `${(tick.at / length) * 100}%` }}>${tick.label}</span>`)}</span>
      <span class="took">Time</span>
    </div>
    <div class="tree" role="treegrid" aria-label="Executions" aria-rowcount=${rows.length} ref=${grid} onKeyDown=${move}>
      ${rows.length <= CHUNKED_FROM
        ? rows.map(rowOf)
        : chunksOf(rows).map((chunk) => html`<${Chunk} key=${chunk[0].one.id} count=${chunk.length} isNeeded=${chunk.some((row) => row.one.id === selectedId)}>${() => chunk.map(rowOf)}<//>`)}
    </div>
  </section>`;
}

/** @template T @param {T[]} rows @returns {T[][]} */
const chunksOf = (rows) => Array.from({ length: Math.ceil(rows.length / CHUNK) }, (_, index) => rows.slice(index * CHUNK, (index + 1) * CHUNK));

/**
 * Some rows of a long tree, drawn only near the window or with the selected row among them.
 *
 * @param {{ count: number, isNeeded: boolean, children: () => any }} props
 */
function Chunk({ count, isNeeded, children }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setNear(entries.some((entry) => entry.isIntersecting)), { rootMargin: "800px 0px" });
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const isDrawn = isNear || isNeeded;
  return html`<div class="chunk" role="presentation" ref=${place} style=${{ minHeight: `${count * ROW_HEIGHT}px` }}>${isDrawn && children()}</div>`;
}

/**
 * @param {{ one: ExecutionState, level: number, place: number, size: number, hasChildren: boolean, version: number, scale: Scale, ticks: { at: number }[], isFolded: boolean, isSelected: boolean, onSelect: (id: string) => void, onFold: (id: string, isFolded: boolean) => void }} props
 */
function Row({ one, level, place, size, hasChildren, scale, ticks, isFolded, isSelected, onSelect, onFold }) {
  const name = one.record?.kind === "department" && level > 1 ? departmentName(one.department) : one.name || agentName(one.agentId);
  const took = (one.endedAt ?? (one.startedAt ? scale.now : null)) && one.startedAt ? (one.endedAt ?? scale.now) - one.startedAt : null;
  return html`<div class="exec" role="row" data-id=${one.id} aria-level=${level} aria-posinset=${place} aria-setsize=${size} aria-selected=${isSelected ? "true" : "false"}
    aria-expanded=${hasChildren ? String(!isFolded) : undefined} tabindex=${isSelected ? 0 : -1} onClick=${() => onSelect(one.id)}>
    <span class="who" role="gridcell" style=${{ paddingLeft: `${Math.min(level - 1, 6) * 18}px` }}>
      ${hasChildren && level > 1
        ? html`<button class="fold" tabindex="-1" aria-label=${`${isFolded ? "Expand" : "Collapse"} ${name}`} onClick=${(/** @type {Event} */ event) => { event.stopPropagation(); onFold(one.id, !isFolded); }}><${Icon} name=${isFolded ? "open" : "closed"} /></button>`
        : null}
      <${Status} status=${one.status} iconOnly />
      <span class="name clip" title=${name}>${name}</span>
      ${one.approvals.length > 0 && html`<span class="tag warn">APPROVAL</span>`}
      ${one.reviewStatus === "revision-needed" && html`<span class="tag warn">REVISION</span>`}
      <span class="score number">${one.scores.slice(-2).map((value) => Math.round(value)).join(" → ") || (one.score === null ? "" : Math.round(one.score))}</span>
    </span>
    <${Lane} one=${one} scale=${scale} ticks=${ticks} isSelected=${isSelected} />
    <span class="took number" role="gridcell">${duration(took)}</span>
  </div>`;
}

/**
 * A lane: waiting behind, what was done in front of it; below it the tools of the selected execution.
 *
 * @param {{ one: ExecutionState, scale: Scale, ticks: { at: number }[], isSelected: boolean }} props
 */
function Lane({ one, scale, ticks, isSelected }) {
  const from = one.laneStart;
  const until = one.endedAt ?? (one.isRunning || one.status === "pending" ? scale.now : from);
  const bars = barsOf(one, scale.now);
  const shown = mergedBars(bars, scale.length / MAX_BARS);
  const label = `${statusWord(one.status)}; ${summaryOf(bars)}`;
  return html`<span class="lanes" role="gridcell" aria-label=${label}>
    <span class="lane">
      ${ticks.map((tick) => html`<i class="grid-line" style=${{ left: `${(tick.at / scale.length) * 100}%` }}></i>`)}
      ${from !== null && until !== null && until > from && html`<i class="bar wait" style=${placeOf(from, until, scale)}></i>`}
      ${shown.map((bar) => html`<i class=${`bar ${bar.kind} ${bar.failed ? "failed" : ""} ${bar.open ? "open" : ""}`} style=${placeOf(bar.start, bar.end, scale)} title=${`${bar.label} · ${duration(bar.end - bar.start)}`}></i>`)}
      ${scale.isLive && html`<i class="now" style=${{ left: "100%" }}></i>`}
    </span>
    ${isSelected && one.tools.length > 0 && html`<span class="tool-lanes">
      ${one.tools.slice(-12).map((tool) => html`<span class="lane tool-lane"><i class=${`bar tool ${tool.failed ? "failed" : ""}`} style=${placeOf(tool.start, tool.end ?? scale.now, scale)}></i><span class="tool-name" style=${labelPlace(tool.start, tool.end ?? scale.now, scale)}>${tool.name}</span></span>`)}
    </span>`}
  </span>`;
}

/**
 * @param {number} start
 * @param {number} end
 * @param {Scale} scale
 */
function placeOf(start, end, scale) {
  const left = Math.max(0, Math.min(100, ((start - scale.start) / scale.length) * 100));
  const width = Math.max(MIN_WIDTH, Math.min(100 - left, ((end - Math.max(start, scale.start)) / scale.length) * 100));
  return { left: `${Math.min(left, 100 - MIN_WIDTH)}%`, width: `${width}%` };
}

/**
 * The place of a tool's name: behind its bar, before it where there is no room.
 *
 * @param {number} start
 * @param {number} end
 * @param {Scale} scale
 */
function labelPlace(start, end, scale) {
  const right = ((end - scale.start) / scale.length) * 100;
  return right < 70 ? { left: `calc(${right}% + 6px)` } : { right: `calc(${100 - ((start - scale.start) / scale.length) * 100}% + 6px)` };
}
