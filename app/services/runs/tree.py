"""A run tree in the hands of its owner: its log, and its executions with the state that their events say."""

import secrets
import string
import time
from dataclasses import dataclass, field

from app.errors import AppError
from app.events.log import TreeLog
from app.events.types import AgentError, AgentRetry
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, RunOptions, StopReason
from app.models.base import utc_now
from app.models.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition
from app.services.runs.execution_run import Crew, ExecutionRun
from app.services.runs.state import ExecutionState

ID_ALPHABET = string.digits + string.ascii_lowercase


def new_execution_id() -> str:
    """An execution's id, in the report's form: milliseconds, then nine random characters."""
    tail = "".join(secrets.choice(ID_ALPHABET) for _ in range(9))
    return f"exec_{time.time_ns() // 1_000_000}_{tail}"


@dataclass
class RunTree:
    """A root, its children by agent, and what their stored events say of each."""

    root: AgentExecution
    log: TreeLog
    crew: Crew
    children: dict[str, AgentExecution] = field(default_factory=dict)
    stored_events: dict[str, list[JsonObject]] = field(default_factory=dict)
    runs: dict[str, ExecutionRun] = field(default_factory=dict)

    @property
    def options(self) -> RunOptions:
        """What the client asked of the run."""
        return self.root.options or RunOptions()

    def run_of(self, execution: AgentExecution, agent: AgentDefinition) -> ExecutionRun:
        """The running form of an execution, from where its stored events leave it."""
        state = ExecutionState(max_revisions=self.options.max_revisions)
        for event in self.stored_events.pop(execution.execution_id, ()):
            state.apply(event)
        run = ExecutionRun(execution, agent, self.log, self.crew, self.options, state)
        self.runs[execution.execution_id] = run
        return run

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
        self.log.append(self.root.execution_id, AgentRetry(reason="taken-over", attempt=self.root.takeovers))

    def fail(self, error: AppError) -> None:
        """End every execution of the tree that has not ended, the root last."""
        detail = {"code": error.code, "message": error.message}
        changes = {
            "status": ExecutionStatus.FAILED.value,
            "stopReason": StopReason.ERROR.value,
            "error": detail,
            "completedAt": utc_now(),
            "lease": None,
        }
        for execution in (*self.children.values(), self.root):
            if not self._has_ended(execution):
                self.log.append(execution.execution_id, AgentError(error=detail), changes=changes)

    def _has_ended(self, execution: AgentExecution) -> bool:
        run = self.runs.get(execution.execution_id)
        return run.state.ended if run else execution.status.is_terminal
