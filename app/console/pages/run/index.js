/** The page of a run: tree and timeline as one table, events below, details at the right. */
import { Loading, Problem } from "../../components/states.js";
import { html, useCallback, useEffect, useMemo } from "../../lib/html.js";
import { useNow } from "../../lib/now.js";
import { navigate, route, setQuery } from "../../lib/router.js";
import { waitingIn } from "./approvals.js";
import { areEventsGone, ArchiveNote } from "./archive.js";
import { Details } from "./details.js";
import { Events } from "./events.js";
import { useRun } from "./follow.js";
import { Header } from "./header.js";
import { Timeline } from "./timeline.js";

/**
 * A run by any of its executions: one below the root leads to the root's page, with itself selected.
 *
 * @param {{ executionId: string }} props
 */
export function RunPage({ executionId }) {
  const following = useRun(executionId);
  const { root, error, refresh } = following;
  const rootId = root?.rootExecutionId;
  useEffect(() => {
    if (rootId && rootId !== executionId) navigate(`/runs/${encodeURIComponent(rootId)}?at=${encodeURIComponent(executionId)}`, { replace: true });
  }, [rootId]);
  if (error && !root) return html`<div class="page"><h1>Run</h1><${Problem} error=${error} onRetry=${refresh} /></div>`;
  if (rootId !== executionId) return html`<div class="page"><${Loading} lines=${9} /></div>`;
  return html`<${Run} rootId=${rootId} ...${following} />`;
}

/** @param {{ rootId: string } & ReturnType<typeof useRun>} props */
function Run({ rootId, run, version, root, error, state, refresh }) {
  const query = route.value.query;
  const selectedId = query.get("at") ?? rootId;
  const selectedSeq = Number(query.get("event")) || null;
  const now = useNow(run.end === null);
  const below = useMemo(() => run.children(), [run, version]);

  const select = useCallback((/** @type {string} */ id) => setQuery({ at: id === rootId ? null : id, event: null }), [rootId]);
  const selectEvent = useCallback((/** @type {any} */ event) => setQuery({ at: event.executionId === rootId ? null : event.executionId, event: event.seq }), [rootId]);

  const selected = run.executions.get(selectedId) ?? run.root;
  return html`<div class="run-page">
    <${Header} run=${run} root=${root} selected=${selected} version=${version} now=${now} refresh=${refresh} />
    ${root.archivedAt && html`<div class="run-problem"><${ArchiveNote} root=${root} /></div>`}
    ${error && !areEventsGone(root) && html`<div class="run-problem"><${Problem} error=${error} onRetry=${refresh} /></div>`}
    <div class="board">
      <div class="trace">
        <${Timeline} run=${run} below=${below} version=${version} now=${now} selectedId=${selected.id} onSelect=${select} />
        <${Events} run=${run} version=${version} state=${state} isGone=${areEventsGone(root)} selectedSeq=${selectedSeq} onSelect=${selectEvent} />
      </div>
      <${Details} key=${selected.id} run=${run} execution=${selected} version=${selected.version} waiting=${waitingIn(run, selected)} selectedSeq=${selectedSeq} />
    </div>
  </div>`;
}
