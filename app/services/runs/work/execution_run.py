"""One execution while it runs: its document, its agent, its state, and the one way to change any of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import bson

from app.errors import AppError
from app.events.log.log_rows import MAX_DOCUMENT_EVENT_BYTES
from app.events.log.tree_log import TreeLog
from app.events.outbox import ExecutionEnd
from app.events.types import AgentComplete, AgentError, AgentStart, Event, ReviewStatusChanged
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus, ReviewStatus, RunOptions, StopReason
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import CallMetadata, ModelCaller, ModelRequest, RunPurpose, add_costs
from app.services.llm.context.window import ContextRules
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.messages.turns import portable
from app.services.prompts.agents import agent_profile, agent_system_prompt, task_prompt
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.versions import PROMPTS_VERSION
from app.services.quality.gates import DEFAULT_THRESHOLDS, Thresholds
from app.services.runs.work.model_calls import DEFAULT_PAUSES, RetryPauses
from app.services.runs.work.state import ExecutionState
from app.services.tools.toolbox import Toolbox

MAX_DATA_BYTES = 512 * 1024
MAX_RUN_STATE_BYTES = 4 * 1024 * 1024
MAX_DOCUMENT_BYTES = 12_000_000
"""What an execution's document may take: MongoDB refuses one of 16 MiB, and then an ending too."""
OTHER_FIELDS_BYTES = 256 * 1024
"""What a document has beside its events, its texts and what its ending sets; a later review, too."""


@dataclass(frozen=True)
class RunContext:
    """What every run of this process works with."""

    models: ModelCaller
    tools: Toolbox
    wants_deltas: Callable[[str], bool]
    record_name: Callable[[str], str]
    thresholds: Thresholds = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    """What each quality gate asks for."""
    outbox_marks: Callable[[ExecutionEnd], JsonObject] = lambda _: {}
    """The stored fields that an end leaves for the outbox."""
    retries: Callable[[str], int] = lambda _: 0
    """How often a failed call of a model is repeated."""
    retry_pauses: RetryPauses = DEFAULT_PAUSES
    context_tokens: Callable[[str], int | None] = lambda _: None
    """How much a model takes, where that is known: then several outputs are judged in one call."""
    context_rules: ContextRules = field(default_factory=ContextRules)
    """How requests are kept within a model's context."""


@dataclass
class ExecutionRun:
    """An execution of a tree that this process owns."""

    execution: AgentExecution
    agent: AgentDefinition
    log: TreeLog
    context: RunContext
    options: RunOptions
    state: ExecutionState
    opening: list[JsonObject] = field(default_factory=list)
    """The messages that come before the execution's own turns: who the agent is and what it is asked."""
    history: list[JsonObject] = field(default_factory=list[JsonObject])
    """The conversation that it goes on from."""

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.execution.execution_id

    @property
    def model(self) -> str:
        """The catalogue name of the model that its calls use."""
        return self.options.model or self.agent.model

    @property
    def failure(self) -> JsonObject | None:
        """The error that it ended with, if it failed."""
        return self.state.failure

    def open_with(self, prompt: str) -> None:
        """Begin the conversation with what the agent is asked."""
        self.opening = [system_message(agent_system_prompt(self.agent)), *self.history, user_message(prompt)]

    def append(self, *events: Event, **changes: Any) -> None:  # noqa: ANN401 - any stored value
        """Append events, and with them changes of the document's fields; both at once, or neither."""
        stored = self.log.append(self.id, *events, changes=changes)
        for event in stored:
            self.state.apply(event)
        self.execution.note_changes(changes, stored[-1]["seq"])

    def begin(self, *then: Event) -> None:
        """Say that the agent starts, and `then` what goes with it, once, however often the run is taken over."""
        if self.state.started:
            return
        start = AgentStart(
            agent_id=self.agent.agent_id,
            name=self.agent.name,
            department=self.agent.department.slug,
            model=self.context.record_name(self.model),
            tool_names=[tool.name for tool in self.agent.tools],
            missing_tools=list(self.agent.missing_tools) or None,
            prompt=self.execution.prompt,
            prompts_version=PROMPTS_VERSION,
        )
        self.append(start, *then, status=ExecutionStatus.RUNNING.value, startedAt=utc_now())

    def request(self, messages: list[JsonObject], purpose: RunPurpose, tools: list[JsonObject]) -> ModelRequest:
        """A model call for this execution, streamed where somebody watches its text as it comes."""
        live = self.options.deltas or self.context.wants_deltas(self.log.root_id)

        def show(text: str) -> None:
            self.log.show_delta(self.id, self.agent.agent_id, text)

        return ModelRequest(
            model=self.model,
            messages=messages,
            purpose=purpose,
            execution_id=self.id,
            tools=tools,
            task=max(len(self.opening) - 1, 0),
            mark=replace(self.state.mark, messages=self.state.mark.messages + len(self.opening)),
            metadata=self._metadata,
            on_delta=show if live else None,
        )

    @property
    def _metadata(self) -> CallMetadata:
        """The facts that the messages of the next model call put into words."""
        state = self.state
        is_revision = bool(state.turns) and state.retry_count > 0
        notes = (state.review or {}).get("notes") or "" if is_revision else None
        return CallMetadata(agent_profile(self.agent), notes, is_last_step=state.step >= self.agent.max_steps)

    def complete(self, output: JsonObject, stop_reason: StopReason, *before: Event) -> None:
        """End with an output; `before` are the events that go just before the last one."""
        last = AgentComplete(
            agent_id=self.agent.agent_id,
            output=output,
            token_usage=self.state.usage.as_json(),
            cost_usd=self.state.cost_usd,
            stop_reason=stop_reason.value,
        )
        self.append(*before, last, **self._ending(self.state, ExecutionStatus.COMPLETED, stop_reason, output=output))

    def fail(self, error: AppError) -> None:
        """End with an error, and with what its last model call cost if the answer could not be used."""
        detail = error_detail(error)
        spent = error.spent if isinstance(error, ModelCallFailed) else None
        failed = None
        state = self.state
        if spent is not None and spent.execution_id == self.id:
            failed = {"model": spent.model, "usage": spent.usage.as_json(), "costUsd": spent.cost_usd}
            cost = add_costs(state.cost_usd, spent.cost_usd)
            state = replace(state, usage=state.usage + spent.usage, cost_usd=cost)
        last = AgentError(
            agent_id=self.agent.agent_id,
            error=detail,
            failed_call=failed,
            token_usage=state.usage.as_json(),
            cost_usd=state.cost_usd,
        )
        ending = self._ending(state, ExecutionStatus.FAILED, StopReason.ERROR, error=detail)
        self.append(last, **ending, **provider_words(error))

    def _ending(
        self, state: ExecutionState, status: ExecutionStatus, stop_reason: StopReason, **outcome: JsonObject
    ) -> JsonObject:
        """The fields that an ending sets. The message history is written here, once, not at every step."""
        opening = self.opening or asked_of(self.execution, state, self.history)
        ending = ending_fields(self.execution, state, status, stop_reason)
        ending |= self.context.outbox_marks(end_of(self.execution, state, status))
        ending |= {**outcome, "qualityThreshold": self.agent.quality_threshold}
        return with_history(ending, [*opening, *state.turns], self.execution)

    def await_review(self) -> None:
        """Say that a draft which a person asked for has not been reviewed yet, where no head will do it."""
        if self.state.review is None or self.state.is_reviewed:
            return
        notes = "Revised; not reviewed again yet."
        pending = ReviewStatusChanged(
            agent_id=self.agent.agent_id,
            status=ReviewStatus.PENDING.value,
            notes=notes,
            retry_count=self.state.retry_count,
        )
        self.append(pending, reviewStatus=ReviewStatus.PENDING.value, reviewNotes=notes)

    def review_changes(self, status: str, notes: str | None, reviewer: AgentDefinition) -> JsonObject:
        """The fields that a review sets."""
        changes: JsonObject = {"reviewStatus": ReviewStatus(status).value, "reviewNotes": notes or ""}
        if status != ReviewStatus.PENDING:
            changes["reviewedBy"] = reviewer.id
        return changes


def ending_fields(
    execution: AgentExecution, state: ExecutionState, status: ExecutionStatus, stop_reason: StopReason
) -> JsonObject:
    """The fields that every ending sets, by what the execution's events say."""
    now = utc_now()
    started = execution.started_at or now
    ending: JsonObject = {
        "status": status.value,
        "stopReason": stop_reason.value,
        "startedAt": started,
        "completedAt": now,
        "executionTime": worked_milliseconds(execution, state, started, now),
        "updatedAt": now,
        "tokenUsage": state.usage.as_json(),
        "costUsd": state.cost_usd,
        "retryCount": state.retry_count,
        "truncated": state.truncated,
        "lease": None,
    }
    if state.quality_score is not None:
        ending["qualityScore"] = state.quality_score
    if state.check is not None:
        ending["qualityGate"] = {name: state.check["gate"][name] for name in ("name", "threshold", "passed", "score")}
    return ending


def end_of(execution: AgentExecution, state: ExecutionState, status: ExecutionStatus) -> ExecutionEnd:
    """Returns an execution's end as the outbox's consumers see it."""
    return ExecutionEnd(execution, status, state.tool_calls, is_first=state.reopened_at is None)


def worked_milliseconds(execution: AgentExecution, state: ExecutionState, started: datetime, now: datetime) -> float:
    """How long it ran; the time between its end and a revision that a person asked for does not count."""
    before = 0.0
    if state.reopened_at is not None:
        started = datetime.fromisoformat(state.reopened_at)
        before = execution.execution_time or 0
    return before + max(round((now - started).total_seconds() * 1000), 0)


def asked_of(execution: AgentExecution, state: ExecutionState, history: list[JsonObject]) -> list[JsonObject]:
    """What came before an execution's own turns, for who ends it without having gone on with it.

    The conversation that it goes on from, its prompt and a head's plan; not the agent's instructions as they were.
    """
    asked = [*history, user_message(task_prompt(execution.prompt, execution.params))]
    return asked if state.plan is None else [*asked, plan_turn(state.plan)]


def plan_turn(plan: JsonObject) -> JsonObject:
    """The plan as the head's turn in the history that is kept."""
    return {"role": "assistant", "content": plan["rationale"], "plan": plan}


def with_history(ending: JsonObject, messages: list[JsonObject], execution: AgentExecution) -> JsonObject:
    """An ending with the `runState` of its execution.

    A history that its document cannot hold loses what only its own model takes back, such as reasoning; one that is
    still too large is left to the events.
    """
    kept: JsonObject = {name: getattr(execution, name) for name in ("prompt", "params", "output", "error")}
    taken = MAX_DOCUMENT_EVENT_BYTES + OTHER_FIELDS_BYTES + len(bson.encode(kept | ending))
    room = min(MAX_DOCUMENT_BYTES - taken, MAX_RUN_STATE_BYTES)
    for history in ({"messages": messages}, {"messages": [portable(message) for message in messages]}):
        if len(bson.encode(history)) <= room:
            return ending | {"runState": history}
    omitted = "The history is too large for one document; the events hold it."
    return ending | {"runState": {"messages": [], "omitted": omitted}}


def error_detail(error: AppError) -> JsonObject:
    """An expected failure as executions and events show it."""
    return {"code": error.code, "message": error.message}


def provider_words(error: AppError) -> JsonObject:
    """The field for what a provider said; it stands apart from `error`, which everyone sees who sees the execution."""
    return {"providerMessage": error.provider_message} if error.provider_message else {}


def text_output(text: str) -> JsonObject:
    """An agent's output: its text, and `data` when the text is JSON that MongoDB can hold in half a megabyte."""
    try:
        parsed = clean_json(json.loads(text, parse_constant=refuse_constant))
    except (ValueError, RecursionError):
        parsed = None
    if len(bson.encode({"data": parsed})) > MAX_DATA_BYTES:
        parsed = None
    return {"text": text, "data": parsed}


def refuse_constant(name: str) -> None:
    """`NaN` and the infinities are not JSON."""
    raise ValueError(name)
