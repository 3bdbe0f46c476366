"""The prompts that models received for an execution, for people who write instructions or investigate a result."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.database.connection import Database
from app.events.log.full_events import tree_events
from app.events.types import AgentRetry
from app.kit.json_values import JsonObject
from app.kit.schemas import ApiModel
from app.models.agent_execution import AgentExecution, ExecutionKind, RunOptions
from app.services.access.api_keys import Caller
from app.services.llm.calls import RunPurpose
from app.services.prompts.versions import PROMPTS_VERSION
from app.services.runs.material.sent_prompts import KEPT_PURPOSES, find_prompt
from app.services.runs.queries.execution_shapes import ExecutionRead
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.work.model_calls import with_fences
from app.services.runs.work.state import ExecutionState

PURPOSE_OF_TYPE = {"quality-check": RunPurpose.JUDGE, "review-status": RunPurpose.REVIEW}
OWN_PURPOSE = {
    ExecutionKind.AGENT: RunPurpose.WORK,
    ExecutionKind.DEPARTMENT: RunPurpose.REPORT,
    ExecutionKind.ORCHESTRATION: RunPurpose.ORCHESTRATE,
}


class ShownCall(ApiModel):
    """The last call of one purpose, and the number of calls with that purpose."""

    purpose: RunPurpose
    """The purpose of the calls."""
    calls: int
    """The number of calls with this purpose."""
    seqs: list[int]
    """The numbers of the events that carry the answers of these calls."""
    model: str | None
    """The model that the last call requested; `null` if unknown."""
    source: Literal["stored", "missing"]
    """`stored`: the messages as they were sent, except for what `omitted` names. `missing`: they were not kept, because
    the execution is of an earlier release or its process ended first."""
    messages: list[JsonObject]
    """The messages of the last call; empty if they are missing."""
    omitted: JsonObject | None = None
    """The parts of the messages that were left out or shortened to fit into the model's context."""


class ShownPrompts(ApiModel):
    """The prompts that models received for an execution."""

    execution_id: str
    """The execution's id."""
    prompts_version: str | None
    """The version of the prompt templates that the run began with."""
    current_version: str
    """The version of the prompt templates in use now."""
    calls: list[ShownCall]
    """The last call of each purpose."""


@dataclass
class Account:
    """Collects the calls of an execution, event by event; `opening` holds the messages before its own turns."""

    execution: ExecutionRead
    opening: list[JsonObject]
    state: ExecutionState
    kept: Mapping[str, list[JsonObject]]
    """The kept messages of plans, judgments, reviews and formatting calls, by their hash."""
    version: str | None = None
    found: dict[RunPurpose, ShownCall] = field(default_factory=dict[RunPurpose, ShownCall])

    def take(self, event: JsonObject) -> None:
        """Record the call that an event reports, with the state at that time."""
        if event["type"] == "agent-start":
            self.version = event.get("promptsVersion")
        if (
            "usage" in event and event["type"] != AgentRetry.type
        ):  # a retry's event does not say which calls it repeated
            purpose = self._purpose_of(event)
            messages = self._messages_of(event)
            before = self.found.get(purpose)
            seqs = [*(before.seqs if before else []), event["seq"]]
            self.found[purpose] = ShownCall(
                purpose=purpose,
                calls=len(seqs),
                seqs=seqs,
                model=event.get("model"),
                source="stored" if messages else "missing",
                messages=messages,
                omitted=event.get("omitted"),
            )
        self.state.apply(event)

    def _purpose_of(self, event: JsonObject) -> RunPurpose:
        if "plan" in event:
            return RunPurpose.PLAN
        if "format" in event:
            return RunPurpose.FORMAT
        return PURPOSE_OF_TYPE.get(event["type"], OWN_PURPOSE[self.execution.kind])

    def _messages_of(self, event: JsonObject) -> list[JsonObject]:
        if self._purpose_of(event) in KEPT_PURPOSES:
            return self.kept.get(event.get("promptHash") or "", [])
        messages = [*self.opening, *self.state.turns] if self.opening else []
        return with_fences(messages)


@dataclass(frozen=True)
class PromptQueries:
    """Returns prompts from kept messages, and from stored events and histories."""

    database: Database
    executions: ExecutionQueries

    async def read(self, execution_id: str, caller: Caller) -> ShownPrompts:
        """Return the last call of each purpose that was made for an execution.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        document = await self.executions.find_visible(execution_id, caller)
        if not document.is_ours:
            return ShownPrompts(
                execution_id=execution_id, prompts_version=None, current_version=PROMPTS_VERSION, calls=[]
            )
        execution = await self.executions.get_execution(execution_id, caller)
        events = [event async for owner, event in self._events(document) if owner == execution_id]
        account = await self._account(document, execution, events)
        for event in events:
            account.take(event)
        return ShownPrompts(
            execution_id=execution_id,
            prompts_version=account.version,
            current_version=PROMPTS_VERSION,
            calls=list(account.found.values()),
        )

    def _events(self, document: AgentExecution) -> AsyncGenerator[tuple[str, JsonObject]]:
        return tree_events(self.database, document.root_id, self.executions.archives)

    async def _account(self, document: AgentExecution, execution: ExecutionRead, events: list[JsonObject]) -> Account:
        limit = (document.options or RunOptions()).max_revisions
        final = ExecutionState(max_revisions=limit)
        for event in events:
            final.apply(event)
        hashes = {str(event["promptHash"]) for event in events if event.get("promptHash")}
        found = {sha256: await self._prompt(document, sha256) for sha256 in hashes}
        return Account(
            execution=execution,
            opening=opening_of(execution.run_state, len(final.turns)),
            state=ExecutionState(max_revisions=limit),
            kept={sha256: messages for sha256, messages in found.items() if messages},
        )

    async def _prompt(self, document: AgentExecution, sha256: str) -> list[JsonObject] | None:
        archive = self.executions.archive_of(document)
        if archive is not None:
            return await archive.prompt(sha256)
        return await find_prompt(self.database, document.root_id, sha256)


def opening_of(run_state: object, turns: int) -> list[JsonObject]:
    """Return the messages before an ended execution's own turns; a head's report does not see its plan's conversation.

    Returns nothing if a process other than the one that ran it ended it, because the instructions are not stored then.
    """
    messages = run_state.get("messages") if isinstance(run_state, dict) else None
    if not isinstance(messages, list) or len(messages) <= turns:
        return []
    opening: list[JsonObject] = messages[: len(messages) - turns]
    if opening[0].get("role") != "system":
        return []
    return [opening[0], opening[-1]] if any("plan" in message for message in opening) else opening
