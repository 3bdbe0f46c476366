"""The requests and answers of model calls, independent of the provider."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from app.kit.described_enums import DescribedEnum
from app.kit.json_values import JsonObject
from app.kit.times import iso_milliseconds
from app.services.llm.context.mark import NO_MARK, ContextMark

COST_DECIMALS = 12
CUT = "length"
"""The finish reason of an answer that stopped at the output limit."""


class RunPurpose(DescribedEnum):
    """The purpose of a model call, sent as `X-Run-Purpose`."""

    PLAN = "plan"
    """The head plans the work of its department."""
    WORK = "work"
    """An agent works on its task."""
    JUDGE = "judge"
    """The judge scores an output."""
    REVIEW = "review"
    """The head reviews a specialist's output."""
    REPORT = "report"
    """The head writes the report of its department."""
    ORCHESTRATE = "orchestrate"
    """The final result is made of the departments' reports."""
    FORMAT = "format"
    """An answer is turned into data that matches the output schema."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one or more calls; `cache_read` and `cache_write` are parts of the input."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "TokenUsage") -> "TokenUsage":
        return TokenUsage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )

    def as_json(self) -> JsonObject:
        """Return the wire form."""
        return {
            "input": self.input,
            "output": self.output,
            "total": self.input + self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> "TokenUsage":
        """Return the usage behind its wire form."""
        return cls(value["input"], value["output"], value["cacheRead"], value["cacheWrite"])


NO_USAGE = TokenUsage()


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """An agent as its system prompt introduces it."""

    agent_id: str
    name: str
    department: str
    specialization: str = ""
    skills: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallMetadata:
    """The facts that a request's messages put into words; only the demo model receives them."""

    agent: AgentProfile
    revision_notes: str | None = None
    """The changes that a reviewer asks for, if the agent revises its work."""
    is_last_step: bool = False
    """Whether the agent must answer without tools."""
    reviewed: AgentProfile | None = None
    """The agent whose work is reviewed."""
    draft: int = 1
    """The number of the draft under review."""


@dataclass(frozen=True, slots=True)
class CallScope:
    """The execution that a call serves, with everything that its cost is attributed to.

    `agent` and `department` are natural keys, `project` and `api_key` ids.
    """

    root_execution_id: str
    agent: str | None = None
    department: str | None = None
    project: str | None = None
    api_key: str | None = None
    tags: tuple[str, ...] = ()
    """The run's tags."""


NO_SCOPE = CallScope("")


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call: a configured model name, chat messages and tools in OpenAI's form, and the execution that it serves."""

    model: str
    messages: list[JsonObject]
    purpose: RunPurpose
    execution_id: str
    tools: list[JsonObject] = field(default_factory=list)
    response_format: JsonObject | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    task: int | None = None
    """The position of the message that states the task: it and later messages are omitted last. If unset, it
    is the first message of a user."""
    shared: str | None = None
    """The beginning of the last message that other requests share; a provider's prompt cache may keep it."""
    mark: ContextMark = NO_MARK
    """The context mark of the conversation that the request continues."""
    metadata: CallMetadata | None = None
    on_delta: Callable[[str], None] | None = None
    """Receives the text as it arrives; the call is streamed if this is set."""
    scope: CallScope = NO_SCOPE
    use_cache: bool = True
    """Whether a cached answer may be returned."""
    only_cached: bool = False
    """Whether only a cached answer is wanted: without one, `AnswerNotCached` is raised and no model is called."""
    also_answers: Callable[["Completion"], Iterable[tuple["ModelRequest", "Completion"]]] | None = None
    """Returns the further requests that an answer covers, each with its part of the answer; they are cached too."""
    attempt: int = 1
    """The number of this attempt at the call."""


@dataclass(frozen=True, slots=True)
class RequestedToolCall:
    """A tool call as the model requested it; `arguments` is the model's text, which should be JSON.

    `attached` holds the provider fields that go back with the call.
    """

    id: str
    name: str
    arguments: str
    attached: JsonObject | None = None


class CallOutcome(DescribedEnum):
    """How an attempt at a model call ended."""

    OK = "ok"
    """It gave a usable answer."""
    ERROR = "error"
    """It failed, or its answer could not be used."""


class PriceStatus(DescribedEnum):
    """Whether the price of a call is known."""

    PRICED = "priced"
    """The cost is known."""
    UNPRICED = "unpriced"
    """The price of the model or the number of tokens is unknown."""


class UsageStatus(DescribedEnum):
    """How trustworthy the provider's count of a call's tokens is."""

    REPORTED = "reported"
    """The provider counted the tokens."""
    MISSING = "missing"
    """The provider reported no count."""
    INCONSISTENT = "inconsistent"
    """The parts of the count exceed its sums; it is recorded as the provider reported it."""
    IMPLAUSIBLE = "implausible"
    """A number is negative or absurdly large; it is recorded in `reportedUsage` and counts as 0."""


class CacheStatus(DescribedEnum):
    """The role of the response cache in a call."""

    HIT = "hit"
    """The answer came from the cache, or from an identical call in flight."""
    MISS = "miss"
    """The cache had no answer."""
    BYPASSED = "bypassed"
    """The cache was not asked."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One attempt sent to a provider, or one answer from the cache: a row of the ledger.

    `model` is the name in records, `deployment` LiteLLM's name of the model that was called. `error_code` is set if the
    attempt failed. `cost_usd` is `None` if the price or the tokens are unknown; an attempt that failed without usage
    costs 0. `reported` holds an implausible count as the provider reported it.
    """

    execution_id: str
    scope: CallScope
    purpose: RunPurpose
    model: str
    deployment: str
    attempt: int
    usage: TokenUsage
    cost_usd: float | None
    is_priced: bool
    started_at: datetime
    duration_ms: int
    error_code: str | None = None
    reasoning_tokens: int = 0
    usage_status: UsageStatus = UsageStatus.REPORTED
    reported: JsonObject | None = None
    cache_status: CacheStatus = CacheStatus.BYPASSED
    saved_tokens: int = 0
    saved_cost_usd: float | None = 0.0
    batch_id: str | None = None
    call_id: str = field(default_factory=lambda: f"call_{uuid4().hex}")

    def as_json(self) -> JsonObject:
        """Return the ledger row; the log that stores its event adds `seq`."""
        row: JsonObject = {
            "callId": self.call_id,
            "executionId": self.execution_id,
            "rootExecutionId": self.scope.root_execution_id or self.execution_id,
            "agent": self.scope.agent,
            "department": self.scope.department,
            "project": self.scope.project,
            "apiKey": self.scope.api_key,
            "purpose": self.purpose.value,
            "model": self.model,
            "deployment": self.deployment,
            "attempt": self.attempt,
            "outcome": (CallOutcome.OK if self.error_code is None else CallOutcome.ERROR).value,
            "inputTokens": self.usage.input,
            "outputTokens": self.usage.output,
            "cacheReadTokens": self.usage.cache_read,
            "cacheWriteTokens": self.usage.cache_write,
            "reasoningTokens": self.reasoning_tokens,
            "costUsd": self.cost_usd,
            "priceStatus": (PriceStatus.PRICED if self.is_priced else PriceStatus.UNPRICED).value,
            "cached": self.cache_status is CacheStatus.HIT,
            "cacheStatus": self.cache_status.value,
            "savedTokens": self.saved_tokens,
            "savedCostUsd": self.saved_cost_usd,
            "usageStatus": self.usage_status.value,
            "durationMs": self.duration_ms,
            "startedAt": iso_milliseconds(self.started_at),
        }
        if self.error_code is not None:
            row["errorCode"] = self.error_code
        if self.batch_id is not None:
            row["batchId"] = self.batch_id
        if self.reported is not None:
            row["reportedUsage"] = self.reported
        return row

    def failed(self, code: str) -> "ModelCall":
        """Return the same call with an answer that is not usable."""
        return replace(self, error_code=code)


def usage_in(row: JsonObject) -> TokenUsage:
    """Return the tokens of a ledger row."""
    return TokenUsage(row["inputTokens"], row["outputTokens"], row["cacheReadTokens"], row["cacheWriteTokens"])


def call_fields(calls: tuple[ModelCall, ...]) -> JsonObject:
    """Return the event fields that report some calls: their rows, and their usage and cost if a model answered."""
    if not calls:
        return {}
    fields: JsonObject = {"calls": [call.as_json() for call in calls]}
    if any(call.error_code is None or call.usage != NO_USAGE for call in calls):
        usage, cost = sum_of(calls)
        fields |= {"model": calls[-1].model, "usage": usage.as_json(), "cost_usd": cost}
    return fields


def sum_of(calls: tuple[ModelCall, ...]) -> tuple[TokenUsage, float | None]:
    """Return the tokens and cost of some calls."""
    usage = NO_USAGE
    cost: float | None = 0.0
    for call in calls:
        usage += call.usage
        cost = add_costs(cost, call.cost_usd)
    return usage, cost


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer. `model` is the name in records; `cost_usd` is `None` if the price is unknown.

    `reasoning` is the model's reasoning, if its provider returns it. `provider_data` holds the fields that go
    back with the turn, and under `origin` the model that they belong to.
    """

    text: str
    tool_calls: tuple[RequestedToolCall, ...]
    usage: TokenUsage
    cost_usd: float | None
    model: str
    finish_reason: str | None = None
    reasoning: str | None = None
    provider_data: JsonObject | None = None
    omitted: JsonObject | None = None
    """The parts of the request that were omitted to fit the model's context."""
    calls: tuple[ModelCall, ...] = field(default=(), compare=False)
    """The attempts behind this answer that no event has reported yet; the last one gave the answer."""
    prompt_hash: str | None = field(default=None, compare=False)
    """The hash of the request's messages, if they are kept."""

    @property
    def is_cut(self) -> bool:
        """Whether the answer stopped at the model's output limit."""
        return self.finish_reason == CUT

    @property
    def is_cached(self) -> bool:
        """Whether the answer came from the response cache."""
        return bool(self.calls) and self.calls[-1].cache_status is CacheStatus.HIT

    def refused(self, code: str) -> tuple[ModelCall, ...]:
        """Return the calls of an answer that the caller cannot use: the last one failed with `code`."""
        return (*self.calls[:-1], self.calls[-1].failed(code)) if self.calls else ()


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The time limits of a call: to the first byte of a stream, between two of its chunks, and in total."""

    first_byte_seconds: float = 60.0
    idle_seconds: float = 30.0
    total_seconds: float = 600.0


class ModelCaller(Protocol):
    """Answers model requests."""

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            ModelCallFailed: no usable answer, after the configured retries.
        """
        ...


def add_costs(first: float | None, second: float | None) -> float | None:
    """Return the sum of two costs; `None` if either is unknown."""
    return None if first is None or second is None else round(first + second, COST_DECIMALS)
