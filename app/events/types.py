"""The events of a run by their wire names, and the frame in which each is sent.

Run code creates an event with its own fields; the log adds `seq`, the ids and the time (`stamp`). The same JSON then
goes into the execution's document, to every subscriber, and into the state of a process that takes the run over, so an
event carries everything needed to continue from it. Events that a retry copies from the old run say `copied`.
"""

from datetime import datetime
from typing import Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from app.kit.json_values import JsonObject

TIMESTAMP = b'"timestamp":"'


class Event(BaseModel):
    """An event of one execution. `type` is the wire name."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    type: ClassVar[str]
    agent_id: str | None = None
    calls: list[JsonObject] | None = None
    """The ledger rows of the model calls that the event reports, failed attempts included."""
    nullable: ClassVar[frozenset[str]] = frozenset()
    """Wire names of fields that are sent as `null` when unset; all others are then left out."""

    def body(self) -> JsonObject:
        """Return the event's own fields in wire form, without those that are unset."""
        fields = self.model_dump(by_alias=True)
        return {name: value for name, value in fields.items() if value is not None or name in self.nullable}


class ModelTurn(Event):
    """The first event of a model call's answer: `step` counts the calls of an attempt from 1.

    `costUsd` is `null` if the model's price is unknown. `omitted` says which parts of the conversation were not sent,
    so that the call fits into the model's context; the record has all of them. `turns` and `messages` count the oldest
    parts that were left out, and `toolResults` the results that were shortened. `toolResultBytes` and `textBytes` are
    the limits to which they were cut, if those were lower than usual. `contextTokens` is the context that was assumed.
    """

    step: int | None = None
    model: str | None = None
    usage: JsonObject | None = None
    cost_usd: float | None = None
    omitted: JsonObject | None = None
    cached: bool | None = None
    """Whether the answer came from the response cache."""
    prompt_hash: str | None = None
    """The SHA-256 of the messages that were sent, which are kept for plans, judgments, reviews and formatting."""

    def body(self) -> JsonObject:
        """Return the event's own fields in wire form."""
        return super().body() | ({} if self.usage is None else {"costUsd": self.cost_usd})


class AgentTurn(ModelTurn):
    """An event that begins a turn of the agent's own model.

    `reasoning` is the model's thinking, if its provider exposes it. `providerData` is what the provider wants back
    with the turn (signed thinking, say), unchanged and by the same model alone: its `origin`.
    """

    reasoning: str | None = None
    provider_data: JsonObject | None = None


class AgentStart(Event):
    """The agent begins; `prompt` is what it was asked, `model` the name that its calls use.

    `missingTools` are the names in the agent's `toolNames` that it cannot use: they do not exist, are switched off, are
    not offered to its department, or their input schema is refused. `contextHash` is the SHA-256 of the text about the
    project and the episode in its prompts, `null` without one.
    """

    type: ClassVar[str] = "agent-start"
    name: str | None = None
    department: str | None = None
    model: str | None = None
    tool_names: list[str] | None = None
    missing_tools: list[str] | None = None
    prompt: str | None = None
    prompts_version: str | None = None
    context_hash: str | None = None
    nullable: ClassVar[frozenset[str]] = frozenset({"contextHash"})


class AgentThinking(AgentTurn):
    """The text that a model turn carries with its tool calls; a head's carries its `plan`.

    With `format`, the message is the answer of a formatting call: `{"attempt", "valid", "problems": [{"path",
    "message"}]}`, and `truncated` if it stopped at the model's output limit.
    """

    type: ClassVar[str] = "agent-thinking"
    message: str
    plan: JsonObject | None = None
    format: JsonObject | None = None


class ToolCall(AgentTurn):
    """A tool is about to run; `input` is what the model gave it."""

    type: ClassVar[str] = "tool-call"
    tool_call_id: str
    tool_name: str
    input: Any = None
    version: str | None = None
    arguments: str | None = None
    """The model's own text of the arguments, kept only where it is not a JSON object."""
    arguments_cut: bool | None = None
    """Whether the arguments stopped at the model's output limit."""
    call_data: JsonObject | None = None
    """Data that the provider attached to the call and wants back with it, like `providerData` of a turn."""
    nullable: ClassVar[frozenset[str]] = frozenset({"input"})


class ApprovalRequested(Event):
    """A tool call waits for a person's decision; `inputDigest` is the SHA-256 of the canonical JSON of `input`."""

    type: ClassVar[str] = "approval-requested"
    approval_id: str
    tool_call_id: str
    tool_name: str
    tool_version: str | None = None
    input: Any
    input_digest: str
    expires_at: str


class ApprovalDecided(Event):
    """The decision on a tool call: `status` is `approved`, `declined` or `expired`.

    `editedInput` is the input with which the call is made, where the person changed it; `input` is the original.
    `decidedBy` is `{"type", "name"}`, absent where the approval expired.
    """

    type: ClassVar[str] = "approval-decided"
    approval_id: str
    tool_call_id: str
    tool_name: str
    status: str
    input: Any
    edited_input: JsonObject | None = None
    input_digest: str
    decided_by: JsonObject | None = None
    decided_at: str | None = None
    message: str | None = None


class ToolResult(Event):
    """The result of a tool, or `{"error": {"code", "message"}}`, with its console output and memory use.

    `editedInput` is the input with which a person approved the call, where it differs from the model's.
    """

    type: ClassVar[str] = "tool-result"
    tool_call_id: str
    tool_name: str
    output: Any = None
    duration_ms: float | None = None
    console: list[str] | None = None
    memory_bytes: int | None = None
    edited_input: JsonObject | None = None
    nullable: ClassVar[frozenset[str]] = frozenset({"output"})


class AgentResponse(AgentTurn):
    """A turn's final text."""

    type: ClassVar[str] = "agent-response"
    content: str
    finish_reason: str | None = None
    output_truncated: bool | None = None
    """Whether the text stopped at the model's output limit: it is not complete."""


class AgentComplete(Event):
    """The execution ended with an output: the last event of its document, unless a person reviews it later."""

    type: ClassVar[str] = "agent-complete"
    output: Any
    token_usage: JsonObject
    cost_usd: float | None
    stop_reason: str
    nullable: ClassVar[frozenset[str]] = frozenset({"output", "costUsd"})


class AgentError(Event):
    """The execution failed: `error` is `{"code", "message"}`.

    `failedCall` is `{"model", "usage", "costUsd"}` of its last model call, where that was answered and the answer could
    not be used; `tokenUsage` and `costUsd` include it.
    """

    type: ClassVar[str] = "agent-error"
    error: JsonObject
    failed_call: JsonObject | None = None
    token_usage: JsonObject | None = None
    cost_usd: float | None = None
    stop_reason: str = "error"
    nullable: ClassVar[frozenset[str]] = frozenset({"costUsd"})


class AgentCancelled(Event):
    """The run was cancelled before the execution had ended."""

    type: ClassVar[str] = "agent-cancelled"
    token_usage: JsonObject | None = None
    cost_usd: float | None = None
    stop_reason: str = "cancelled"
    nullable: ClassVar[frozenset[str]] = frozenset({"costUsd"})


class AgentRetry(ModelTurn):
    """Another process continues the run, or something is retried; `attempt` counts from 1.

    Where a model call is made again although the model had answered, `usage` and `costUsd` are those of that answer.
    """

    type: ClassVar[str] = "agent-retry"
    reason: str
    attempt: int


class QualityCheck(ModelTurn):
    """A judge's verdict: `score` and the `dimensions` 0 to 1, the `gate` with its issues; `null` without a score.

    An execution's `qualityScore` is the same score times 100.

    `judgeVersion` is the version of the judge's prompt, `model` the judge's model: only scores with equal ones compare.
    """

    type: ClassVar[str] = "quality-check"
    score: float | None
    dimensions: dict[str, float]
    gate: JsonObject
    reasoning: str | None = None
    judge_version: str | None = None
    judged_together: int | None = None
    """How many outputs were judged in the same call, whose tokens they share; unset where it was judged alone."""
    nullable: ClassVar[frozenset[str]] = frozenset({"score"})


class ReviewStatusChanged(ModelTurn):
    """The reviewer's decision about an execution's output; `reviewedBy` is the reviewing agent's id.

    A review by a person has `reviewer` instead: `{"kind": "person", "name"}`. It comes after the end, and where it asks
    for a revision `reopens` the execution.
    """

    type: ClassVar[str] = "review-status"
    status: str
    notes: str | None = None
    reviewed_by: str | None = None
    reviewer: JsonObject | None = None
    reopens: bool | None = None
    retry_count: int = 0


class DepartmentStart(Event):
    """A department begins to work on a prompt."""

    type: ClassVar[str] = "department-start"
    department_slug: str


class DepartmentComplete(Event):
    """A department's report, with its specialists and gates."""

    type: ClassVar[str] = "department-complete"
    department_slug: str
    report: JsonObject


class OrchestratorProgress(Event):
    """How far an orchestration is: `done` of its `total` departments have ended, `message` for people.

    `stage` is `started`, `department-started`, `department-completed`, `department-failed`, `result` (the final result
    is being written) or `completed`; those of a department name it and its execution, where it got one.
    """

    type: ClassVar[str] = "orchestrator-progress"
    stage: str
    message: str
    done: int
    total: int
    department_slug: str | None = None
    department_execution_id: str | None = None


class BudgetAlert(Event):
    """The execution's last call brought a budget to its `alertAt`: once per budget period.

    `ratio` is the used share (0 to 1, or more) of the limit that is used most. `maxTokens` and `maxCostUsd` are `null`
    if there is no such limit, `usedCostUsd` if the price of a call is unknown.
    """

    type: ClassVar[str] = "budget-alert"
    scope: str
    period: str
    used_tokens: int
    max_tokens: int | None
    used_cost_usd: float | None
    max_cost_usd: float | None
    ratio: float
    nullable: ClassVar[frozenset[str]] = frozenset({"maxTokens", "usedCostUsd", "maxCostUsd"})


class AgentDelta(BaseModel):
    """Text as the model produces it: live only, without a `seq`, never stored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    type: Literal["agent-delta"] = "agent-delta"
    execution_id: str
    root_execution_id: str
    agent_id: str
    text: str


class Frame:
    """An event in wire form: serialized once, its bytes shared by all followers."""

    __slots__ = ("data", "execution_id", "seq", "type")

    def __init__(self, event: JsonObject) -> None:
        self.seq: int = event["seq"]
        self.type: str = event["type"]
        self.execution_id: str = event["executionId"]
        self.data = orjson.dumps(event)

    @classmethod
    def of(cls, seq: int, kind: str, execution_id: str, data: bytes) -> "Frame":
        """Return a frame that was serialized elsewhere."""
        frame = cls.__new__(cls)
        frame.seq, frame.type, frame.execution_id, frame.data = seq, kind, execution_id, data
        return frame

    @property
    def appended_at(self) -> float | None:
        """The event's time in seconds since 1970, if it has one; no field before it can hold a client's text."""
        try:
            start = self.data.index(TIMESTAMP) + len(TIMESTAMP)
            return datetime.fromisoformat(self.data[start : self.data.index(b'"', start)].decode()).timestamp()
        except ValueError:
            return None

    @property
    def text(self) -> str:
        """The JSON as text."""
        return self.data.decode()


def stamp(event: Event, *, seq: int, execution_id: str, root_id: str, timestamp: str) -> JsonObject:
    """Return the event in the form that is stored and sent; each ledger row in it gets the event's number."""
    body = event.body()
    for row in body.get("calls", ()):
        row["seq"] = seq
    return {
        "type": event.type,
        "seq": seq,
        "executionId": execution_id,
        "rootExecutionId": root_id,
        "timestamp": timestamp,
        **body,
    }
