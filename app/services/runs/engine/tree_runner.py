"""The runner of owned trees: each is a task of this process that runs the tree to its end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog
from pymongo.errors import PyMongoError

from app.database.connection import Database
from app.database.natural_keys import find_agent_id
from app.errors import AppError
from app.events.log.log_rows import Row
from app.events.log.tree_log import TreeLog, TreeLost
from app.events.stream.bus import EventBus
from app.failpoints import failpoint
from app.models.agent_execution import AgentExecution, ExecutionKind
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import AgentNotFound, DefinitionLoader
from app.services.llm.cache.response_cache import CachedModels
from app.services.llm.context.window import ContextWindow
from app.services.llm.traced_models import TracedModels
from app.services.runs.approvals.store import ApprovalStore
from app.services.runs.engine.execution_spans import record_end_span, reopened_at, repeat_end_spans
from app.services.runs.engine.leases import Leases
from app.services.runs.engine.origins import Accepted, Claimed, Origin
from app.services.runs.engine.owned_trees import OwnedTree, OwnedTrees
from app.services.runs.engine.recovery import RunUnreadable, open_log
from app.services.runs.material.cms_documents import CmsContext, read_context
from app.services.runs.material.sent_prompts import kept_in
from app.services.runs.spending.budgeted_models import BudgetedModels
from app.services.runs.spending.run_limits import run_budget_of, spent_in
from app.services.runs.work.agent_run import run_agent
from app.services.runs.work.checkpoint_copier import CheckpointCopier
from app.services.runs.work.conversations import read_history
from app.services.runs.work.department_run import DepartmentRun
from app.services.runs.work.execution_run import ExecutionRun, RunContext
from app.services.runs.work.model_calls import model_chain, unchanged
from app.services.runs.work.orchestration_run import OrchestrationRun
from app.services.runs.work.revision_request import apply_revision_request
from app.services.runs.work.run_tree import RunTree, note_budget_mark, note_model_retry, scope_of
from app.telemetry.run_metrics import record_calls, record_end
from app.telemetry.tracing import NO_TRACES, Traces

MAX_TAKEOVERS = 3

log = structlog.get_logger(__name__)


class WorkerLost(AppError):
    """Too many processes died while running the tree."""

    code = "worker-lost"

    def __init__(self, takeovers: int) -> None:
        super().__init__(f"The process that ran this died, and so did those that took it over ({takeovers} in all).")


class RunTooLong(AppError):
    """The run exceeded the time limit of runs."""

    code = "run-too-long"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The run exceeded MAX_RUN_SECONDS ({seconds:g} s).")


def record_stored(tree: RunTree, row: Row) -> None:
    """Count the model calls, and possibly the end of the execution, that a stored event reports."""
    if calls := row.event.get("calls"):
        record_calls(calls)
    if row.ending is not None:
        kind = tree.kind_of(row.ending.execution_id)
        record_end(kind.value, row.ending.status.value, row.changes.get("executionTime") or 0)
        record_end_span(tree, row)


def has_run(root: AgentExecution) -> bool:
    """Return whether an earlier owner may have made model calls for the tree."""
    return root.last_seq > 0 or root.takeovers > 0


def was_never_run(root: AgentExecution) -> bool:
    """Return whether the tree has only its root, without events: it was queued, and no process has run it."""
    return not has_run(root) and root.reopening is None and not root.cancel_requested


@dataclass(frozen=True)
class TreeRunner:
    """Runs trees to their ends.

    `holds_leases` reports whether this process certainly still holds its leases; `on_stored_end` is called when a
    tree's end is stored, `on_released` whenever a tree leaves this process, `on_available` when one may wait in the
    queue.
    """

    database: Database
    bus: EventBus
    loader: DefinitionLoader
    context: RunContext
    leases: Leases
    owned: OwnedTrees
    holds_leases: Callable[[], bool]
    on_stored_end: Callable[[], None]
    on_released: Callable[[], None]
    on_available: Callable[[], None]
    traces: Traces = NO_TRACES

    def start(self, root: AgentExecution, origin: Origin) -> None:
        """Run an owned tree as a task; returns at once."""
        tree_log = TreeLog(
            database=self.database,
            bus=self.bus,
            root_id=root.execution_id,
            fence=root.fence,
            last_seq=root.last_seq,
            on_lost=lambda: owned.stop(),
            holds=self.holds_leases,
            on_stored=lambda row: record_stored(tree, row),
        )
        tree = self._build_tree(root, tree_log)
        owned = OwnedTree(tree_log, bool(root.cancel_requested), tree.waits, tree.count_running)
        tree.waits.on_idle = owned.release
        self.owned.add(root.execution_id, owned)
        owned.task = asyncio.create_task(self._run(tree, origin, owned), name=f"run {root.execution_id}")

    def _build_tree(self, root: AgentExecution, tree_log: TreeLog) -> RunTree:
        """Return the tree, whose model calls go through the chain built here."""
        runs: dict[str, ExecutionRun] = {}
        run_budget = run_budget_of(root)
        cache = self.context.response_cache
        trace = self.traces.tree(root.execution_id, root.trace, partial(reopened_at, runs))
        models = model_chain(
            self.context.models,
            window=ContextWindow(self.context.context_rules),
            retries=self.context.retries,
            pauses=self.context.retry_pauses,
            note_retry=partial(note_model_retry, runs),
            scope_of=partial(scope_of, root, runs),
            use_cache=root.options.cache if root.options else True,
            ensure_owned=tree_log.ensure_owned,
            cached=partial(CachedModels, cache=cache) if cache is not None else unchanged,
            traced=partial(TracedModels, trace=trace, conversation_id=root.conversation_id)
            if trace.is_on
            else unchanged,
            kept=kept_in(self.database, root.execution_id),
            budgeted=partial(
                BudgetedModels,
                budgets=self.context.budgets,
                run_budget=run_budget,
                root_id=root.execution_id,
                worst_case=self.context.worst_case,
                note_mark=partial(note_budget_mark, runs),
            ),
        )
        return RunTree(root, tree_log, replace(self.context, models=models, trace=trace), runs, run_budget)

    async def _run(self, tree: RunTree, origin: Origin, owned: OwnedTree) -> AgentExecution | None:
        """Run a tree to its end; a crash in it becomes a failed run here.

        Returns the root as stored, or `None` if another process continues the tree.
        """
        root = tree.root
        structlog.contextvars.bind_contextvars(executionId=root.execution_id)
        if tree.context.trace.trace_id is not None:
            structlog.contextvars.bind_contextvars(trace_id=tree.context.trace.trace_id)
        is_new, is_last_try = isinstance(origin, Accepted) or was_never_run(root), root.takeovers > MAX_TAKEOVERS
        try:
            if self.context.budgets is not None and has_run(root):
                await self.context.budgets.release_tree(root.execution_id)
            if await open_log(self.database, tree, is_new=is_new, is_last_try=is_last_try):
                tree.run_budget.used = spent_in(tree.stored_events)
                failpoint("before-first-event")
                await self._run_to_end(tree, origin)
            await tree.log.committed()
            failpoint("after-end")
            self.on_stored_end()
            return root
        except asyncio.CancelledError:
            if not owned.is_released or owned.is_stopped:
                raise
            await self._release(tree, owned)
        except TreeLost as error:
            log.warning("run-lost", reason=str(error))
        except (PyMongoError, RunUnreadable) as error:
            log.warning("run-abandoned", error=type(error).__name__)
        except Exception:
            log.exception("run-abandoned")
        finally:
            tree.waits.stop()
            try:
                await tree.log.close()
            finally:
                self.owned.remove(root.execution_id, owned)
                self.on_released()
                if owned.is_released:  # a decision may have made it available while it was still owned here
                    self.on_available()
        return None

    async def _release(self, tree: RunTree, owned: OwnedTree) -> None:
        """Give up the lease on a tree in which everything waits for decisions."""
        try:
            await tree.log.committed()
            store = ApprovalStore(self.database)
            waits = await store.release(tree.log.root_id, tree.log.fence, self.leases.owner, owned.awaited)
        except (TreeLost, PyMongoError) as error:
            log.warning("run-not-released", error=type(error).__name__)
            return
        log.info("run-released", waits=waits, approvals=len(owned.awaited))

    async def _run_to_end(self, tree: RunTree, origin: Origin) -> None:
        """Run the root within its time limit; any error ends the tree as failed."""
        if tree.root.cancel_requested:
            tree.cancel()
            return
        limit = asyncio.timeout(self.leases.seconds_left(tree.root))
        try:
            async with limit:
                match origin:
                    case Accepted(agent, cms):
                        tree.cms = await cms or await self.read_context(tree.root)
                        await self._run_root(tree, agent, accepted=False)
                    case Claimed():
                        agent = await self._resume(tree)
                        tree.cms = await self.read_context(tree.root)
                        await self._run_root(tree, agent, accepted=True)
            log.info("run-completed", kind=tree.root.kind.value)
        except AppError as error:
            log.info("run-failed", code=error.code)
            tree.fail(error)
        except (TreeLost, PyMongoError):
            raise
        except Exception:
            if limit.expired():
                log.info("run-failed", code=RunTooLong.code)
                tree.fail(RunTooLong(self.leases.run_seconds))
                return
            log.exception("run-crashed")
            tree.fail(AppError("The run failed because of a bug in the service; its log has the details."))

    async def _run_root(self, tree: RunTree, agent: AgentDefinition, *, accepted: bool) -> None:
        """Run the root by its kind; a run that was `accepted` earlier may use definitions that are inactive now."""
        root = tree.root
        structlog.contextvars.bind_contextvars(agentId=agent.agent_id)
        tree.agent_ids[root.execution_id] = agent.agent_id
        if root.from_checkpoint and root.retry_of is not None:
            await CheckpointCopier(self.database, tree, root.retry_of).copy_remaining()
        if root.previous_execution_id is not None and not tree.history:
            tree.history = await read_history(self.database, root.previous_execution_id)
        run = tree.run_of(root, agent)
        match root.kind:
            case ExecutionKind.DEPARTMENT:
                team = await self.loader.get_team(agent.department.slug, accepted=accepted)
                await DepartmentRun(run, team, tree).run()
            case ExecutionKind.ORCHESTRATION:
                await OrchestrationRun(run, tree, self.loader).run()
            case ExecutionKind.AGENT:
                await run_agent(run)

    async def read_context(self, root: AgentExecution) -> CmsContext:
        """Return the project and the episode of a tree as agents and judges see them."""
        return await read_context(self.database, root.project, root.episode, self.context.context_fields)

    async def _resume(self, tree: RunTree) -> AgentDefinition:
        """Record in the events why a stored tree continues, and return its agent's current definition, active or
        not."""
        if tree.root.reopening is not None:  # a process may have reopened it and died before it applied the request
            apply_revision_request(tree, tree.root.reopening)
        else:
            tree.note_takeover()
            repeat_end_spans(tree)
        if tree.root.takeovers > MAX_TAKEOVERS:
            raise WorkerLost(tree.root.takeovers)
        agent_id = await find_agent_id(self.database, tree.root.agent)
        if agent_id is None:
            raise AgentNotFound(str(tree.root.agent))
        return await self.loader.get_agent(agent_id, accepted=True)
