"""The requests and answers of model calls, independent of the provider."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from app.kit.described_enums import DescribedEnum
from app.kit.json_values import JsonObject
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
        """The wire form."""
        return {
            "input": self.input,
            "output": self.output,
            "total": self.input + self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> "TokenUsage":
        """The usage behind its wire form."""
        return cls(value["input"], value["output"], value["cacheRead"], value["cacheWrite"])


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
    """The position of the message that states the task: it and the messages after it are omitted last. If unset, it
    is the first message of a user."""
    mark: ContextMark = NO_MARK
    """The context mark of the conversation that the request continues."""
    metadata: CallMetadata | None = None
    on_delta: Callable[[str], None] | None = None
    """Receives the text as it arrives; the call is streamed if this is set."""


@dataclass(frozen=True, slots=True)
class RequestedToolCall:
    """A tool call as the model requested it; `arguments` is the model's text, which should be JSON.

    `attached` holds the provider fields that go back with the call.
    """

    id: str
    name: str
    arguments: str
    attached: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """The tokens and cost of an answered call of an execution; `cost_usd` is `None` if the price is unknown."""

    execution_id: str
    model: str
    usage: TokenUsage
    cost_usd: float | None

    def as_fields(self) -> JsonObject:
        """The fields of the event that reports the call."""
        return {"model": self.model, "usage": self.usage.as_json(), "cost_usd": self.cost_usd}


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

    @property
    def is_cut(self) -> bool:
        """Whether the answer stopped at the model's output limit."""
        return self.finish_reason == CUT

    def spent(self, execution_id: str) -> Spending:
        """The usage and cost of the call."""
        return Spending(execution_id, self.model, self.usage, self.cost_usd)


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
    """The sum of two costs; `None` if either is unknown."""
    return None if first is None or second is None else round(first + second, COST_DECIMALS)
