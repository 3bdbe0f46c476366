"""A model's answer: the text, the tool calls, and the provider fields that go back with the turn.

Answers come as LiteLLM's messages or as the chunks of a stream; both become the same plain dictionary, in the form of
LiteLLM's message, and that becomes an `Answer`. LiteLLM's own way of joining chunks merges tool calls that a server
numbers badly and drops what a provider attaches to them, so chunks are joined here.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from app.kit.json_values import JsonObject, clean_json, clean_text
from app.services.llm.calls import RequestedToolCall

CARRIED = ("thinking_blocks", "reasoning_items", "reasoning_details", "extra_content")
"""Fields of a message, besides its reasoning, that providers want back with the turn."""
CARRIED_DETAILS = (
    "thought_signatures",
    "server_side_tool_invocations",
    "compaction_blocks",
    "web_search_results",
    "tool_results",
)
"""The same among `provider_specific_fields`: what LiteLLM gives back to Gemini and Anthropic from there."""
CALL_FIELDS = {"id", "type", "function", "index", "custom"}
SIGNATURE_MARK = "__thought__"
"""LiteLLM appends Gemini's signature to a call's id, after this."""
THOUGHTS = re.compile(r"\s*<(think|thinking)>(.*?)(?:</\1>\s*|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """One turn of a model; `carried` is what goes back with it unchanged, in the form of LiteLLM's message."""

    text: str
    reasoning: str | None
    carried: JsonObject
    tool_calls: tuple[RequestedToolCall, ...]


def answer_of(message: JsonObject) -> Answer:
    """Return the turn that a message contains."""
    text, reasoning = str(message.get("content") or ""), str(message.get("reasoning_content") or "")
    if thoughts := THOUGHTS.match(text):
        text, reasoning = text[thoughts.end() :], reasoning or thoughts[2].strip()
    details = message.get("provider_specific_fields") or {}
    found = {name: message.get(name) or details.get(name) for name in CARRIED}
    found["thinking_blocks"] = [block for block in found["thinking_blocks"] or [] if is_sealed(block)]
    found["provider_specific_fields"] = {name: details[name] for name in CARRIED_DETAILS if details.get(name)}
    carried = {name: value for name, value in found.items() if value}
    calls = list(message.get("tool_calls") or [])
    if not calls and message.get("function_call"):
        calls = [{"function": message["function_call"]}]  # the older form, with a single call
    return Answer(clean_text(text), clean_text(reasoning) or None, clean_json(carried), tuple(tool_calls_of(calls)))


def carries_data(answer: Answer) -> bool:
    """Return whether the turn has provider fields that only some models accept back."""
    return bool(answer.reasoning or answer.carried or any(call.attached for call in answer.tool_calls))


def is_sealed(block: JsonObject) -> bool:
    """Return whether a thinking block is signed or encrypted: providers refuse other blocks, and none requires them."""
    return bool(block.get("data") if block.get("type") == "redacted_thinking" else block.get("signature"))


def tool_calls_of(calls: Iterable[JsonObject]) -> list[RequestedToolCall]:
    """Return the tool calls of a turn, each with a unique id."""
    found: list[RequestedToolCall] = []
    seen: set[str] = set()
    for place, call in enumerate(calls, start=1):
        given, _, signature = clean_text(call.get("id") or "").partition(SIGNATURE_MARK)
        identity = given or f"call_{place}"
        if identity in seen:
            identity = f"{identity}_{place}"
        seen.add(identity)
        attached = {name: value for name, value in call.items() if name not in CALL_FIELDS and value}
        if signature:
            attached.setdefault("provider_specific_fields", {}).setdefault("thought_signature", signature)
        function = call.get("function") or {}
        found.append(
            RequestedToolCall(
                id=identity,
                name=clean_text(function.get("name") or ""),
                arguments=clean_text(function.get("arguments") or ""),
                attached=clean_json(attached) or None,
            )
        )
    return found


def message_of(response: Any) -> JsonObject | None:  # noqa: ANN401 - LiteLLM's response
    """Return the message of a response that was not streamed; `None` if it has no choice."""
    choices = getattr(response, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    return None if message is None else fields_of(message)


def fields_of(message: BaseModel) -> JsonObject:
    """Return a LiteLLM message or delta as a plain dictionary, without unset fields."""
    fields = {**vars(message), **(message.model_extra or {})}
    return {name: plain(value) for name, value in fields.items() if value is not None}


def plain(value: Any) -> Any:  # noqa: ANN401 - LiteLLM's models in, JSON values out
    """Return a value of a message as plain JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    return [plain(item) for item in value] if isinstance(value, list) else value


@dataclass
class PartialCall:
    """A tool call whose fragments are being collected."""

    index: object
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])
    attached: JsonObject = field(default_factory=dict[str, Any])

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are already a complete JSON object."""
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False

    def takes(self, identity: str, name: str) -> bool:
        """Return whether a fragment with its index belongs to it, or begins another call with the same index."""
        if identity and self.id and identity != self.id:
            return not name and not self.is_complete  # some servers give each fragment its own id
        if name and self.name:
            return name == self.name and not self.is_complete
        return True

    def add(self, fragment: JsonObject) -> None:
        """Add a fragment."""
        function = fragment.get("function") or {}
        self.id = self.id or fragment.get("id") or ""
        self.name = self.name or function.get("name") or ""
        self.arguments.append(function.get("arguments") or "")
        self.attached |= {name: value for name, value in fragment.items() if name not in CALL_FIELDS and value}

    def as_json(self) -> JsonObject:
        """Return the call in the form of LiteLLM's message."""
        return {"id": self.id, "function": {"name": self.name, "arguments": "".join(self.arguments)}, **self.attached}


@dataclass
class MessageBuilder:
    """Joins the deltas of a stream into the message of the same answer without streaming."""

    texts: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    blocks: list[JsonObject] = field(default_factory=list[JsonObject])
    thinking: list[str] = field(default_factory=list[str])
    calls: list[PartialCall] = field(default_factory=list[PartialCall])
    function_call: PartialCall | None = None
    fields: JsonObject = field(default_factory=dict[str, Any])
    details: JsonObject = field(default_factory=dict[str, Any])

    def add(self, delta: JsonObject) -> None:
        """Add a delta."""
        self.texts.append(delta.get("content") or "")
        self.reasoning.append(delta.get("reasoning_content") or "")
        for block in delta.get("thinking_blocks") or []:
            self._add_block(block)
        for fragment in delta.get("tool_calls") or []:
            self._add_fragment(fragment)
        if delta.get("function_call"):
            self.function_call = self.function_call or PartialCall(0)
            self.function_call.add({"function": delta["function_call"]})
        for name in CARRIED:
            if name != "thinking_blocks" and delta.get(name):
                join(self.fields, name, delta[name])
        for name, value in (delta.get("provider_specific_fields") or {}).items():
            if name in CARRIED_DETAILS and value:
                join(self.details, name, value)

    def _add_block(self, block: JsonObject) -> None:
        """Add a piece of thinking; a block ends with its signature."""
        if block.get("type") == "redacted_thinking":
            self.blocks.append(block)
            return
        self.thinking.append(block.get("thinking") or "")
        if block.get("signature"):
            self.blocks.append({**block, "type": "thinking", "thinking": "".join(self.thinking)})
            self.thinking = []

    def _add_fragment(self, fragment: JsonObject) -> None:
        """Add a fragment to its tool call; servers may number all calls 0, or not at all."""
        identity = fragment.get("id") or ""
        name = (fragment.get("function") or {}).get("name") or ""
        index = fragment.get("index")
        known = next((call for call in self.calls if identity and call.id == identity), None)
        last = next((call for call in reversed(self.calls) if call.index == index), None)
        if known is not None and (known.index == index or not name):
            call = known
        else:
            call = last if last is not None and last.takes(identity, name) else None
        if call is None:
            call = PartialCall(index)
            self.calls.append(call)
        call.add(fragment)

    def as_message(self) -> JsonObject:
        """Return the message."""
        message: JsonObject = {
            "content": "".join(self.texts),
            "reasoning_content": "".join(self.reasoning),
            "thinking_blocks": self.blocks,
            "tool_calls": [call.as_json() for call in self.calls],
            "provider_specific_fields": self.details,
            **self.fields,
        }
        if self.function_call is not None:
            message["function_call"] = self.function_call.as_json()["function"]
        return message


def join(fields: JsonObject, name: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Add a delta's value to a field: lists grow, objects are merged, other values are replaced."""
    before = fields.get(name)
    if isinstance(before, list) and isinstance(value, list):
        fields[name] = [*before, *value]
    elif isinstance(before, dict) and isinstance(value, dict):
        fields[name] = {**before, **value}
    else:
        fields[name] = value
