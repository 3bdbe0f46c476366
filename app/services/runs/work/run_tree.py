"""A run tree in the process that owns it: its log, and its executions with the state folded from their events."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.errors import AppError
from app.events.log.tree_log import TreeLog, TreeLost
from app.events.types import AgentCancelled, AgentError, AgentRetry, BudgetAlert, Event
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, RunOptions, StopReason
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import CallScope, add_costs
from app.services.llm.failures.errors import ModelCallFailed, calls_in
from app.services.runs.approvals.waits import TreeWaits
from app.services.runs.approvals.writes import cancel_writes
from app.services.runs.material.cms_documents import NO_CONTEXT, CmsContext
from app.services.runs.work.conversations import asked_of, with_history
from app.services.runs.work.execution_run import (
    ExecutionRun,
    RunContext,
    end_of,
    ending_fields,
    error_detail,
    failure_reason,
    provider_words,
)
from app.services.runs.work.state import ExecutionState
from app.services.usage.budgets.budgets import BudgetMark
from app.services.usage.budgets.run_budget import RunBudget

TAKEN_OVER, RETRIED = "taken-over", "retried"

log = structlog.get_logger(__name__)


def note_model_retry(runs: Mapping[str, ExecutionRun], execution_id: str, error: ModelCallFailed, attempt: int) -> None:
    """Record in an execution's events that a model call is repeated, and the cost of the previous answer."""
    run = runs.get(execution_id)
    if run is not None and not run.state.ended:
        run.append(AgentRetry(agent_id=run.agent.agent_id, reason=error.code, attempt=attempt, **calls_in(error)))


def note_budget_mark(runs: Mapping[str, ExecutionRun], execution_id: str, mark: BudgetMark) -> None:
    """Record in an execution's events that its last call brought a budget to its alert mark."""
    run = runs.get(execution_id)
    if run is not None and not run.state.ended:
        run.append(
            BudgetAlert(
                agent_id=run.agent.agent_id,
                scope=mark.scope,
                period=mark.period,
                used_tokens=mark.used_tokens,
                max_tokens=mark.max_tokens,
                used_cost_usd=mark.used_cost_usd,
                max_cost_usd=mark.max_cost_usd,
                ratio=mark.ratio,
            )
        )


def scope_of(root: AgentExecution, runs: Mapping[str, ExecutionRun], execution_id: str) -> CallScope:
    """Return everything that the cost of an execution's calls is attributed to."""
    run = runs.get(execution_id)
    return CallScope(
        root_execution_id=root.execution_id,
        agent=run.agent.agent_id if run else None,
        department=run.agent.department.slug if run else None,
        project=str(root.project) if root.project else None,
        api_key=root.started_by.api_key if root.started_by else None,
        tags=tuple(root.options.tags) if root.options else (),
    )


@dataclass
class RunTree:
    """A root, its descendants, and their stored events.

    `children` are by their parent's id and their own agent: an agent can occur twice in a tree, like the head of
    Production in an orchestration that it leads. `agent_ids` and `runs` are by execution id.
    """

    root: AgentExecution
    log: TreeLog
    context: RunContext
    runs: dict[str, ExecutionRun]
    run_budget: RunBudget = field(default_factory=RunBudget)
    waits: TreeWaits = field(default_factory=TreeWaits)
    children: dict[tuple[str, str], AgentExecution] = field(default_factory=dict)
    agent_ids: dict[str, str] = field(default_factory=dict)
    stored_events: dict[str, list[JsonObject]] = field(default_factory=dict)
    history: list[JsonObject] = field(default_factory=list[JsonObject])
    """The conversation that the root continues."""
    cms: CmsContext = NO_CONTEXT
    """The project and the episode, as prompts show them."""

    @property
    def options(self) -> RunOptions:
        """The options of the run."""
        return self.root.options or RunOptions()

    @property
    def members(self) -> tuple[AgentExecution, ...]:
        """All executions, parents before children."""
        return (self.root, *self.children.values())

    def kind_of(self, execution_id: str) -> ExecutionKind:
        """Return the kind of an execution of the tree."""
        return next((one.kind for one in self.members if one.execution_id == execution_id), ExecutionKind.AGENT)

    def count_running(self) -> int:
        """Return how many executions have begun and not ended."""
        return sum(not run.state.ended for run in self.runs.values())

    def add_existing(self, execution: AgentExecution, agent_id: str | None) -> None:
        """Add a stored execution to the tree; a deleted agent has no `agent_id`."""
        if agent_id is not None:
            self.agent_ids[execution.execution_id] = agent_id
        if execution.parent_execution_id is not None:
            self.children[execution.parent_execution_id, agent_id or execution.execution_id] = execution

    def append_stored(self, execution: AgentExecution, event: Event, **changes: Any) -> None:  # noqa: ANN401 - any stored value
        """Append an event to an execution that is not running yet; its run starts from the state after the event."""
        stored = self.log.append(execution.execution_id, event, changes=changes)
        execution.note_changes(changes, stored[-1]["seq"])
        self.stored_events.setdefault(execution.execution_id, []).extend(stored)

    def run_of(self, execution: AgentExecution, agent: AgentDefinition) -> ExecutionRun:
        """Return the run of an execution, which continues from its stored events."""
        state = self._stored_state(execution)
        run = ExecutionRun(execution, agent, self.log, self.context, self.options, state, self.waits, cms=self.cms)
        if execution is self.root:
            run.history, run.cost_below = self.history, self.cost_below
        self.runs[execution.execution_id] = run
        return run

    def _stored_state(self, execution: AgentExecution) -> ExecutionState:
        state = ExecutionState(max_revisions=self.options.max_revisions)
        for event in self.stored_events.pop(execution.execution_id, ()):
            state.apply(event)
        for call in state.open_calls.values():
            call.is_inherited = call.is_released or not call.is_asked
        return state

    async def start_child(
        self, parent: ExecutionRun, agent: AgentDefinition, prompt: str, kind: ExecutionKind = ExecutionKind.AGENT
    ) -> ExecutionRun:
        """Return the agent's execution below `parent`, created with the prompt unless it exists."""
        child = self.children.get((parent.id, agent.agent_id))
        if child is None:
            child = AgentExecution.new_child(
                self.root,
                parent.id,
                agent=agent.id,
                department=agent.department.id,
                kind=kind,
                prompt=prompt,
                options=self.options.model_copy(update={"departments": None, "output_schema": None}),
            )
            await self.log.add_child(child)
            self.children[parent.id, agent.agent_id] = child
        return self.runs.get(child.execution_id) or self.run_of(child, agent)

    async def run_child(self, run: ExecutionRun, run_to_end: Callable[[], Awaitable[None]]) -> None:
        """Run a child to its end. If it fails, everything below it ends too; its siblings continue.

        Raises:
            TreeLost: this process no longer owns the tree.
        """
        if run.state.ended:
            return
        try:
            await run_to_end()
        except AppError as error:
            self.fail(error, run.execution)
        except TreeLost:
            raise
        except Exception:
            log.exception("child-crashed")
            self.fail(AppError("It failed because of a bug in the service; its log has the details."), run.execution)

    def note_takeover(self) -> None:
        """Record in the root's events that another process continues the run.

        The first owner records nothing, and neither does an owner that takes the tree after a wait for a decision.
        """
        root_id = self.root.execution_id
        if (self.root.last_seq == 0 and self.root.takeovers == 0) or self.root.resumed:
            return
        stored = self.stored_events.get(root_id, ())
        earlier = sum(event["type"] == AgentRetry.type and event["reason"] == TAKEN_OVER for event in stored)
        retry = AgentRetry(agent_id=self.agent_ids.get(root_id), reason=TAKEN_OVER, attempt=earlier + 1)
        self.append_stored(self.root, retry)

    def fail(self, error: AppError, top: AgentExecution | None = None) -> None:
        """Fail every unfinished execution at and below `top` (by default the root), children before their parents."""
        for execution in self._unended(top or self.root):
            if run := self.runs.get(execution.execution_id):
                run.fail(error)
            else:  # recovered but never resumed: its agent may no longer exist
                detail = error_detail(error)
                words = provider_words(error)
                reason = failure_reason(error)
                last = AgentError(error=detail, stop_reason=reason.value)
                self._end(execution, last, ExecutionStatus.FAILED, reason, error=detail, **words)

    def cancel(self) -> None:
        """Cancel every unfinished execution of the tree, children before their parents."""
        for execution in self._unended(self.root):
            self._end(execution, AgentCancelled(), ExecutionStatus.CANCELLED, StopReason.CANCELLED)

    def cost_below(self) -> float | None:
        """Return what the executions below the root have cost; `None` if a price is unknown."""
        cost: float | None = 0.0
        for execution in self.children.values():
            run = self.runs.get(execution.execution_id)
            cost = add_costs(cost, run.state.cost_usd if run else execution.cost_usd)
        return cost

    def children_of(self, parent: AgentExecution) -> list[AgentExecution]:
        """Return the executions that one started."""
        return [child for (parent_id, _), child in self.children.items() if parent_id == parent.execution_id]

    def _at_and_below(self, top: AgentExecution) -> list[AgentExecution]:
        """Return an execution and all below it, the deepest first."""
        return [*(one for child in self.children_of(top) for one in self._at_and_below(child)), top]

    def _unended(self, top: AgentExecution) -> list[AgentExecution]:
        return [one for one in self._at_and_below(top) if not self._has_ended(one)]

    def _has_ended(self, execution: AgentExecution) -> bool:
        run = self.runs.get(execution.execution_id)
        return run.state.ended if run else execution.status.is_terminal

    def _end(
        self,
        execution: AgentExecution,
        last: AgentError | AgentCancelled,
        status: ExecutionStatus,
        stop_reason: StopReason,
        **changes: Any,  # noqa: ANN401 - any stored value
    ) -> None:
        """End an execution with the totals of its stored events."""
        execution_id = execution.execution_id
        state = self._stored_state(execution)
        spent = {"token_usage": state.usage.as_json(), "cost_usd": state.cost_usd}
        last = last.model_copy(update={"agent_id": self.agent_ids.get(execution_id), **spent})
        below = self.cost_below() if execution is self.root else 0.0
        ending = ending_fields(execution, state, status, stop_reason, below) | changes
        ending |= self.context.outbox_marks(end_of(execution, state, status, self.log.last_seq + 1))
        asked = asked_of(execution, state, self.history if execution is self.root else [])
        changes = with_history(ending, [*asked, *state.turns], execution)
        closed = cancel_writes(state.undecided, (execution_id, self.root.execution_id))
        stored = self.log.append(execution_id, last, changes=changes, side_writes=closed)
        execution.note_changes(changes, stored[-1]["seq"])
