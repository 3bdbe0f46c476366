"""The stored form of a cached answer, and which answers are stored."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.kit.json_values import JsonObject
from app.services.llm.calls import (
    NO_USAGE,
    CacheStatus,
    Completion,
    ModelCall,
    ModelRequest,
    RequestedToolCall,
    UsageStatus,
)
from app.services.llm.messages.structured_output import AnswerSchema, parse_object

MAX_ENTRY_BYTES = 256 * 1024
COMPLETE = ("stop", "tool_calls")
"""The finish reasons of complete answers."""


class StoredCall(BaseModel):
    """A tool call of a stored answer."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    id: str
    name: str
    arguments: str
    attached: dict[str, Any] | None


class StoredAnswer(BaseModel):
    """A complete answer, and what the call behind it used; `cost_usd` is `None` if it is unknown."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    text: str
    tool_calls: list[StoredCall]
    finish_reason: str
    reasoning: str | None
    provider_data: dict[str, Any] | None
    model: str
    deployment: str
    tokens: int
    cost_usd: float | None
    is_priced: bool

    def as_bytes(self) -> bytes | None:
        """Return the stored form, or `None` if the answer is too large or cannot be encoded."""
        try:
            body = self.model_dump_json().encode()
        except ValueError:  # a lone surrogate, or provider data that JSON does not have
            return None
        return body if len(body) <= MAX_ENTRY_BYTES else None

    @classmethod
    def from_bytes(cls, body: bytes) -> "StoredAnswer | None":
        """Return the answer behind its stored form, or `None` if that is damaged."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return None

    def as_completion(self, request: ModelRequest, started_at: datetime, duration_ms: int) -> Completion:
        """Return the answer to a request: its ledger row is a hit without tokens and cost, but with the savings."""
        call = ModelCall(
            execution_id=request.execution_id,
            scope=request.scope,
            purpose=request.purpose,
            model=self.model,
            deployment=self.deployment,
            attempt=request.attempt,
            usage=NO_USAGE,
            cost_usd=0.0,
            is_priced=self.is_priced,
            started_at=started_at,
            duration_ms=duration_ms,
            usage_status=UsageStatus.REPORTED,
            cache_status=CacheStatus.HIT,
            saved_tokens=self.tokens,
            saved_cost_usd=self.cost_usd,
        )
        return Completion(
            text=self.text,
            tool_calls=tuple(RequestedToolCall(**one.model_dump()) for one in self.tool_calls),
            usage=NO_USAGE,
            cost_usd=0.0,
            model=self.model,
            finish_reason=self.finish_reason,
            reasoning=self.reasoning,
            provider_data=self.provider_data,
            calls=(call,),
        )


def stored_answer(request: ModelRequest, completion: Completion) -> StoredAnswer | None:
    """Return the stored form of an answer, or `None` if it is not worth storing.

    Only complete answers are stored: not those that were cut, and not structured answers that do not match their
    schema, which their caller has repaired. A caller that rejects an answer for another reason (a plan with a cycle)
    keeps getting it until it expires, and repairs it in the same way each time.
    """
    if completion.finish_reason not in COMPLETE or not completion.calls:
        return None
    if request.response_format is not None and not matches(completion.text, request.response_format):
        return None
    call = completion.calls[-1]
    return StoredAnswer(
        text=completion.text,
        tool_calls=[
            StoredCall(id=one.id, name=one.name, arguments=one.arguments, attached=one.attached)
            for one in completion.tool_calls
        ],
        finish_reason=completion.finish_reason,
        reasoning=completion.reasoning,
        provider_data=completion.provider_data,
        model=completion.model,
        deployment=call.deployment,
        tokens=call.usage.input + call.usage.output,
        cost_usd=call.cost_usd,
        is_priced=call.is_priced,
    )


def matches(text: str, response_format: JsonObject) -> bool:
    """Return whether a text has a JSON object that matches the schema of a response format, if that has one."""
    described = response_format.get("json_schema")
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
        return True
    _, problems = parse_object(text, AnswerSchema("answer", described["schema"]))
    return not problems
