"""A run tree in the hands of its owner: its log, and its executions with the state that their events say."""

import secrets
import string
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from app.errors import AppError
from app.events.log import TreeLog, TreeLost
from app.events.types import AgentError, AgentRetry
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, RunOptions, StopReason
from app.models.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition
from app.services.runs.execution_run import Crew, ExecutionRun, ending_fields, error_detail, history_for
from app.services.runs.state import ExecutionState

ID_ALPHABET = string.digits + string.ascii_lowercase

log = structlog.get_logger(__name__)


def new_execution_id() -> str:
    """An execution's id, in the report's form: milliseconds, then nine random characters."""
    tail = "".join(secrets.choice(ID_ALPHABET) for _ in range(9))
    return f"exec_{time.time_ns() // 1_000_000}_{tail}"


@dataclass
class RunTree:
    """A root, what it started, and what their stored events say of each.

    `children` are those that an execution started, by its id and the child's agent: an agent can stand in a tree twice,
    as the head of Production does when it leads an orchestration. `agent_ids` are by execution id.
    """

    root: AgentExecution
    log: TreeLog
    crew: Crew
    children: dict[tuple[str, str], AgentExecution] = field(default_factory=dict)
    agent_ids: dict[str, str] = field(default_factory=dict)
    stored_events: dict[str, list[JsonObject]] = field(default_factory=dict)
    runs: dict[str, ExecutionRun] = field(default_factory=dict)

    @property
    def options(self) -> RunOptions:
        """What the client asked of the run."""
        return self.root.options or RunOptions()

    def run_of(self, execution: AgentExecution, agent: AgentDefinition) -> ExecutionRun:
        """The running form of an execution, from where its stored events leave it."""
        run = ExecutionRun(execution, agent, self.log, self.crew, self.options, self._stored_state(execution))
        self.runs[execution.execution_id] = run
        return run

    def _stored_state(self, execution: AgentExecution) -> ExecutionState:
        state = ExecutionState(max_revisions=self.options.max_revisions)
        for event in self.stored_events.pop(execution.execution_id, ()):
            state.apply(event)
        return state

    async def hire(
        self, parent: ExecutionRun, agent: AgentDefinition, prompt: str, kind: ExecutionKind = ExecutionKind.AGENT
    ) -> ExecutionRun:
        """The agent's execution below `parent`, created with the prompt unless it is there already."""
        child = self.children.get((parent.id, agent.agent_id))
        if child is None:
            child = self._new_child(parent, agent, prompt, kind)
            await self.log.add_child(child)
            self.children[parent.id, agent.agent_id] = child
        return self.runs.get(child.execution_id) or self.run_of(child, agent)

    def _new_child(
        self, parent: ExecutionRun, agent: AgentDefinition, prompt: str, kind: ExecutionKind
    ) -> AgentExecution:
        root = self.root
        return AgentExecution(
            execution_id=new_execution_id(),
            agent=agent.id,
            department=agent.department.id,
            project=root.project,
            episode=root.episode,
            conversation_id=root.conversation_id,
            prompt=prompt,
            kind=kind,
            root_execution_id=root.execution_id,
            parent_execution_id=parent.id,
            options=self.options.model_copy(update={"departments": None}),
        )

    async def see_through(self, run: ExecutionRun, go_on: Callable[[], Awaitable[None]]) -> None:
        """Run a child to its end; its failure is its own, ends all below it, and leaves the others to go on.

        Raises:
            TreeLost: this process no longer owns the tree.
        """
        if run.state.ended:
            return
        try:
            await go_on()
        except AppError as error:
            self.fail(error, run.execution)
        except TreeLost:
            raise
        except Exception:
            log.exception("child-crashed")
            self.fail(AppError("It failed for a reason that is in the service's log."), run.execution)

    def note_takeover(self) -> None:
        """Say in the root's events that another process goes on with the run."""
        root_id = self.root.execution_id
        attempt = self.root.fence - 1  # the first owner's fence is 1; a hand-over is no take-over, but an attempt
        self.log.append(root_id, AgentRetry(agent_id=self.agent_ids.get(root_id), reason="taken-over", attempt=attempt))

    def fail(self, error: AppError, top: AgentExecution | None = None) -> None:
        """End every execution at and below `top` (the root) that has not ended, each before the one that started it."""
        for execution in self._at_and_below(top or self.root):
            run = self.runs.get(execution.execution_id)
            if run is None and not execution.status.is_terminal:
                self._fail_unopened(execution, error)
            elif run is not None and not run.state.ended:
                run.fail(error)

    def children_of(self, parent: AgentExecution) -> list[AgentExecution]:
        """The executions that one started."""
        return [child for (parent_id, _), child in self.children.items() if parent_id == parent.execution_id]

    def _at_and_below(self, top: AgentExecution) -> list[AgentExecution]:
        """An execution and all below it, the deepest first."""
        return [*(one for child in self.children_of(top) for one in self._at_and_below(child)), top]

    def _fail_unopened(self, execution: AgentExecution, error: AppError) -> None:
        """End an execution that was taken over and never gone on with: its agent may not exist any more."""
        state = self._stored_state(execution)
        last = AgentError(
            agent_id=self.agent_ids.get(execution.execution_id),
            error=error_detail(error),
            token_usage=state.usage.as_json(),
            cost_usd=state.cost_usd,
        )
        changes = ending_fields(execution, state, ExecutionStatus.FAILED, StopReason.ERROR)
        history = history_for(state.turns)
        changes |= {"error": last.error, "runState": history}
        self.log.append(execution.execution_id, last, changes=changes)
