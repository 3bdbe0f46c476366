"""A run tree in the hands of its owner: its log, and its executions with the state that their events say."""

import secrets
import string
import time
from dataclasses import dataclass, field

from app.errors import AppError
from app.events.log import TreeLog
from app.events.types import AgentError, AgentRetry
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, RunOptions, StopReason
from app.models.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition
from app.services.runs.execution_run import Crew, ExecutionRun, ending_fields, error_detail, history_for
from app.services.runs.state import ExecutionState

ID_ALPHABET = string.digits + string.ascii_lowercase


def new_execution_id() -> str:
    """An execution's id, in the report's form: milliseconds, then nine random characters."""
    tail = "".join(secrets.choice(ID_ALPHABET) for _ in range(9))
    return f"exec_{time.time_ns() // 1_000_000}_{tail}"


@dataclass
class RunTree:
    """A root, its children by agent, and what their stored events say of each; `agent_ids` by execution id."""

    root: AgentExecution
    log: TreeLog
    crew: Crew
    children: dict[str, AgentExecution] = field(default_factory=dict)
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

    async def hire(self, agent: AgentDefinition, prompt: str) -> ExecutionRun:
        """The agent's execution in the tree, created with the prompt unless it is there already."""
        child = self.children.get(agent.agent_id)
        if child is None:
            child = self._new_child(agent, prompt)
            await self.log.add_child(child)
            self.children[agent.agent_id] = child
        return self.run_of(child, agent)

    def _new_child(self, agent: AgentDefinition, prompt: str) -> AgentExecution:
        root = self.root
        return AgentExecution(
            execution_id=new_execution_id(),
            agent=agent.id,
            department=agent.department.id,
            project=root.project,
            episode=root.episode,
            conversation_id=root.conversation_id,
            prompt=prompt,
            kind=ExecutionKind.AGENT,
            root_execution_id=root.execution_id,
            parent_execution_id=root.execution_id,
            options=root.options,
        )

    def note_takeover(self) -> None:
        """Say in the root's events that another process goes on with the run."""
        root_id = self.root.execution_id
        attempt = self.root.fence - 1  # the first owner's fence is 1; a hand-over is no take-over, but an attempt
        self.log.append(root_id, AgentRetry(agent_id=self.agent_ids.get(root_id), reason="taken-over", attempt=attempt))

    def fail(self, error: AppError) -> None:
        """End every execution of the tree that has not ended, the root last."""
        for execution in (*self.children.values(), self.root):
            run = self.runs.get(execution.execution_id)
            if run is None and not execution.status.is_terminal:
                self._fail_unopened(execution, error)
            elif run is not None and not run.state.ended:
                run.fail(error)

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
        history = history_for(state.turns, self.log.spare_bytes(execution.execution_id))
        changes |= {"error": last.error, "runState": history}
        self.log.append(execution.execution_id, last, changes=changes)
