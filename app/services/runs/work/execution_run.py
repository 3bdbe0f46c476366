"""A running execution: its document, its agent, its state, and the only way to change them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from app.errors import AppError
from app.events.log.log_rows import SideWrite
from app.events.log.tree_log import TreeLog
from app.events.outbox import ExecutionEnd
from app.events.types import AgentComplete, AgentError, AgentStart, Event, ReviewStatusChanged
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.agent_execution import (
    AgentExecution,
    ExecutionKind,
    ExecutionStatus,
    ReviewStatus,
    RunOptions,
    StopReason,
)
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.cache.response_cache import ResponseCache
from app.services.llm.calls import CallMetadata, ModelCaller, ModelRequest, RunPurpose, add_costs, call_fields
from app.services.llm.context.window import ContextRules
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.purpose_models import AGENTS_OWN, PurposeModels
from app.services.prompts.agents import HANDED_ON_CHARACTERS, agent_profile, agent_system_prompt
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.versions import PROMPTS_VERSION
from app.services.quality.gates import DEFAULT_THRESHOLDS, Thresholds
from app.services.runs.approvals.waits import TreeWaits
from app.services.runs.approvals.writes import cancel_writes
from app.services.runs.material.cms_documents import NO_CONTEXT, CmsContext, ContextFields
from app.services.runs.outputs.answer_data import text_output
from app.services.runs.work.conversations import asked_of, with_history
from app.services.runs.work.model_calls import DEFAULT_PAUSES, RetryPauses
from app.services.runs.work.state import ExecutionState
from app.services.tools.toolbox import Toolbox
from app.services.usage.budgets.amounts import NOTHING, Amount
from app.services.usage.budgets.budgets import Budgets
from app.services.usage.budgets.errors import BudgetExhausted, BudgetRefused
from app.telemetry.tracing import NO_TRACE, TreeTrace

WEEK_SECONDS = 7 * 24 * 3600.0

ANSWERS = {
    ExecutionKind.AGENT: RunPurpose.WORK,
    ExecutionKind.DEPARTMENT: RunPurpose.REPORT,
    ExecutionKind.ORCHESTRATION: RunPurpose.ORCHESTRATE,
}
"""The purpose of the calls that write an execution's answer."""


@dataclass(frozen=True)
class RunContext:
    """The services and rules that the runs of this process share."""

    models: ModelCaller
    tools: Toolbox
    wants_deltas: Callable[[str], bool]
    record_name: Callable[[str], str]
    purposes: PurposeModels = AGENTS_OWN
    """The model for each purpose of a call."""
    handed_on_characters: int = HANDED_ON_CHARACTERS
    """The number of characters of an output shown to the specialists that build on it."""
    thresholds: Thresholds = field(default_factory=lambda: DEFAULT_THRESHOLDS)
    """The score that each quality gate requires."""
    outbox_marks: Callable[[ExecutionEnd], JsonObject] = lambda _: {}
    """The stored fields that an end leaves for the outbox."""
    retries: Callable[[str], int] = lambda _: 0
    """How often a model's failed calls are retried."""
    retry_pauses: RetryPauses = DEFAULT_PAUSES
    context_tokens: Callable[[str], int | None] = lambda _: None
    """A model's context in tokens, if known: several outputs are then judged in one call."""
    context_rules: ContextRules = field(default_factory=ContextRules)
    """How requests are fitted to a model's context."""
    budgets: Budgets | None = None
    approval_seconds: float = WEEK_SECONDS
    """How long a call waits for a person's approval."""
    response_cache: ResponseCache | None = None
    """The stored answers that runs may use; `None` if there is no cache."""
    context_fields: ContextFields = field(default_factory=ContextFields)
    """The fields of projects and episodes that agents and judges are given."""
    worst_case: Callable[[ModelRequest], Amount] = lambda _: NOTHING
    """The worst case of a request, which budgets reserve."""
    trace: TreeTrace = NO_TRACE
    """The spans of the tree."""


@dataclass
class ExecutionRun:
    """An execution of a tree that this process owns."""

    execution: AgentExecution
    agent: AgentDefinition
    log: TreeLog
    context: RunContext
    options: RunOptions
    state: ExecutionState
    waits: TreeWaits = field(default_factory=TreeWaits)
    """The waits of its tree."""
    opening: list[JsonObject] = field(default_factory=list)
    """The messages before the execution's own turns: the agent's instructions and its task."""
    history: list[JsonObject] = field(default_factory=list[JsonObject])
    """The conversation that it continues."""
    cms: CmsContext = NO_CONTEXT
    """The project and the episode, as prompts show them."""
    kept_output: Callable[[], JsonObject | None] | None = None
    """Returns what a department or orchestration has produced so far; an agent keeps its last text."""
    cost_below: Callable[[], float | None] = lambda: 0.0
    """Returns what the executions below a root have cost."""

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.execution.execution_id

    @property
    def model(self) -> str:
        """The configured name of the model that its calls use, unless their purpose has another."""
        return self.options.model or self.agent.model

    @property
    def answering_model(self) -> str:
        """The configured name of the model that writes its answer."""
        return self.model_for(ANSWERS[self.execution.kind])

    def model_for(self, purpose: RunPurpose) -> str:
        """Return the configured name of the model for calls of a purpose."""
        return self.context.purposes.model_for(purpose, self.model)

    @property
    def failure(self) -> JsonObject | None:
        """The error of a failed execution."""
        return self.state.failure

    @property
    def output_schema(self) -> Any:  # noqa: ANN401 - other programs store any value
        """The JSON Schema of its data: the run's own for a root, else the agent's; `None` without one."""
        is_root = self.execution.parent_execution_id is None
        own = self.options.output_schema if is_root else None
        return self.agent.output_schema if own is None else own

    def open_with(self, prompt: str) -> None:
        """Open the conversation with the agent's task."""
        schema = self.output_schema if self.execution.kind is ExecutionKind.AGENT else None
        instructions = system_message(agent_system_prompt(self.agent, schema, self.cms.text))
        self.opening = [instructions, *self.history, user_message(prompt)]

    def append(self, *events: Event, **changes: Any) -> None:  # noqa: ANN401 - any stored value
        """Append events and change fields of the document, in one write."""
        self.append_with((), *events, **changes)

    def append_with(self, side_writes: Sequence[SideWrite], *events: Event, **changes: Any) -> None:  # noqa: ANN401 - any stored value
        """Append events, and change other documents in the same transaction."""
        stored = self.log.append(self.id, *events, changes=changes, side_writes=side_writes)
        for event in stored:
            self.state.apply(event)
        self.execution.note_changes(changes, stored[-1]["seq"])

    def begin(self, *then: Event) -> None:
        """Append the start event followed by `then`, unless an earlier owner has done so."""
        if self.state.started:
            return
        start = AgentStart(
            agent_id=self.agent.agent_id,
            name=self.agent.name,
            department=self.agent.department.slug,
            model=self.context.record_name(self.answering_model),
            tool_names=[tool.name for tool in self.agent.tools],
            missing_tools=list(self.agent.missing_tools),
            prompt=self.execution.prompt,
            prompts_version=PROMPTS_VERSION,
            context_hash=self.cms.sha256,
        )
        self.append(start, *then, status=ExecutionStatus.RUNNING.value, startedAt=utc_now())

    def request(self, messages: list[JsonObject], purpose: RunPurpose, tools: list[JsonObject]) -> ModelRequest:
        """Return a model call for this execution, streamed if a subscriber watches its text."""
        live = self.options.deltas or self.context.wants_deltas(self.log.root_id)

        def show(text: str) -> None:
            self.log.show_delta(self.id, self.agent.agent_id, text)

        return ModelRequest(
            model=self.model_for(purpose),
            messages=messages,
            purpose=purpose,
            execution_id=self.id,
            tools=tools,
            task=max(len(self.opening) - 1, 0),
            mark=replace(self.state.mark, messages=self.state.mark.messages + len(self.opening)),
            metadata=self.metadata,
            on_delta=show if live else None,
        )

    @property
    def metadata(self) -> CallMetadata:
        """The facts that the messages of the next model call put into words."""
        state = self.state
        is_revision = bool(state.turns) and state.retry_count > 0
        notes = (state.review or {}).get("notes") or "" if is_revision else None
        return CallMetadata(agent_profile(self.agent), notes, is_last_step=state.step >= self.agent.max_steps)

    def complete(self, output: JsonObject, stop_reason: StopReason, *before: Event) -> None:
        """End with an output; `before` are the events just before the last one."""
        last = AgentComplete(
            agent_id=self.agent.agent_id,
            output=output,
            token_usage=self.state.usage.as_json(),
            cost_usd=self.state.cost_usd,
            stop_reason=stop_reason.value,
        )
        seq = self.log.last_seq + len(before) + 1
        self.append(
            *before, last, **self._ending(self.state, seq, ExecutionStatus.COMPLETED, stop_reason, output=output)
        )

    def fail(self, error: AppError) -> None:
        """End with an error, including the cost of a last answer that could not be used."""
        detail = error_detail(error)
        failed = error.calls if isinstance(error, ModelCallFailed | BudgetRefused) else ()
        state = self.state
        fields: JsonObject = {}
        if failed and failed[-1].execution_id == self.id:
            fields = call_fields(failed)
            state = replace(state, calls=[*state.calls])
            state.count(fields)
        spent = None
        if "usage" in fields:
            spent = {"model": fields["model"], "usage": fields["usage"], "costUsd": fields["cost_usd"]}
        last = AgentError(
            agent_id=self.agent.agent_id,
            error=detail,
            calls=fields.get("calls"),
            failed_call=spent,
            token_usage=state.usage.as_json(),
            cost_usd=state.cost_usd,
            stop_reason=failure_reason(error).value,
        )
        kept, reason = self._kept(error), failure_reason(error)
        ending = self._ending(state, self.log.last_seq + 1, ExecutionStatus.FAILED, reason, error=detail, **kept)
        closed = cancel_writes(state.undecided, (self.id, self.log.root_id))
        self.append_with(closed, last, **ending, **provider_words(error))

    def _kept(self, error: AppError) -> JsonObject:
        """Return the output that an execution keeps although it fails.

        If its budget is exhausted, this is its output so far; if its answer could not be turned into data, the answer.
        """
        lacks_data = self.output_schema is not None
        if not isinstance(error, BudgetExhausted) and not (lacks_data and self.state.answer is not None):
            return {}
        kept = self.kept_output() if self.kept_output else kept_text(self.state)
        if kept is None:
            return {}
        return {"output": kept | {"data": None} if lacks_data else kept}

    def _ending(
        self, state: ExecutionState, seq: int, status: ExecutionStatus, stop_reason: StopReason, **outcome: JsonObject
    ) -> JsonObject:
        """Return the fields that an end with event `seq` sets.

        The message history is written here, once, not at every step.
        """
        opening = self.opening or asked_of(self.execution, state, self.history)
        ending = ending_fields(self.execution, state, status, stop_reason, self.cost_below())
        ending |= self.context.outbox_marks(end_of(self.execution, state, status, seq))
        ending |= {**outcome, "qualityThreshold": self.agent.quality_threshold}
        return with_history(ending, [*opening, *state.turns], self.execution)

    def await_review(self) -> None:
        """Record that a revision requested by a person has not been reviewed yet, if no head will review it."""
        if self.state.review is None or self.state.is_reviewed:
            return
        notes = "Revised; not reviewed again yet."
        pending = ReviewStatusChanged(
            agent_id=self.agent.agent_id,
            status=ReviewStatus.PENDING.value,
            notes=notes,
            retry_count=self.state.retry_count,
        )
        changes = {"reviewStatus": ReviewStatus.PENDING.value, "reviewNotes": notes}
        self.append(pending, **changes, **self.execution.superseded_review)

    def review_changes(self, status: str, notes: str | None, reviewer: AgentDefinition) -> JsonObject:
        """Return the fields that a review sets."""
        changes: JsonObject = {"reviewStatus": ReviewStatus(status).value, "reviewNotes": notes or ""}
        if status != ReviewStatus.PENDING:
            changes["reviewedBy"] = reviewer.id
        return changes | self.execution.superseded_review


def ending_fields(
    execution: AgentExecution,
    state: ExecutionState,
    status: ExecutionStatus,
    stop_reason: StopReason,
    cost_below: float | None,
) -> JsonObject:
    """Return the fields that every end sets; `cost_below` is what the executions below a root have cost."""
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
        "listedCostUsd": add_costs(state.cost_usd, cost_below),
        "retryCount": state.retry_count,
        "retries": state.retries,
        "truncated": state.truncated,
        "lease": None,
    }
    if state.quality_score is not None:
        ending["qualityScore"] = state.quality_score
    if state.check is not None:
        ending["qualityGate"] = {name: state.check["gate"][name] for name in ("name", "threshold", "passed", "score")}
    return ending


def end_of(execution: AgentExecution, state: ExecutionState, status: ExecutionStatus, seq: int) -> ExecutionEnd:
    """Return an execution's end, by event `seq`, as the outbox's consumers see it."""
    return ExecutionEnd(
        execution,
        status,
        state.tool_calls,
        is_first=state.reopened_at is None,
        calls=tuple(state.calls),
        counted_calls=state.counted_calls,
        tags=tuple(execution.options.tags) if execution.options else (),
        seq=seq,
    )


def worked_milliseconds(execution: AgentExecution, state: ExecutionState, started: datetime, now: datetime) -> float:
    """Return how long it ran, without the time between its end and a revision."""
    before = 0.0
    if state.reopened_at is not None:
        started = datetime.fromisoformat(state.reopened_at)
        before = execution.execution_time or 0
    return before + max(round((now - started).total_seconds() * 1000), 0)


def error_detail(error: AppError) -> JsonObject:
    """Return an expected failure as executions and events show it."""
    details = [{"path": one.path, "message": one.message} for one in error.errors]
    return {"code": error.code, "message": error.message} | ({"details": details} if details else {})


def failure_reason(error: AppError) -> StopReason:
    """Return the stop reason of an execution that fails with this error."""
    return StopReason.BUDGET if isinstance(error, BudgetExhausted) else StopReason.ERROR


def kept_text(state: ExecutionState) -> JsonObject | None:
    """Return the last text of an unfinished execution as its output."""
    said = (str(turn.get("content") or "") for turn in reversed(state.turns) if turn["role"] == "assistant")
    text = state.answer or next((text for text in said if text.strip()), "")
    return text_output(text) if text.strip() else None


def provider_words(error: AppError) -> JsonObject:
    """Return the field with a provider's message, kept apart from `error` because only admins may see it."""
    return {"providerMessage": error.provider_message} if error.provider_message else {}
