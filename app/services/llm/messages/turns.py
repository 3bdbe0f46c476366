"""Earlier turns as they are sent back: unchanged to their own model, without provider fields to others.

Messages are those that runs keep: OpenAI's form, an assistant's turn with `reasoning_content`, the provider fields
of the turn and its tool calls, and their `origin`. A model's own turns go back to it unchanged.
Another model gets only the text and the tool calls; if it would refuse the calls, it gets them as text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from app.kit.json_values import JsonObject
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.model_table import ModelEntry

ORIGIN = "origin"
INVALID = "INVALID_JSON"
"""The field for arguments that were not a JSON object; they go back as text."""
MAX_INVALID_CHARACTERS = 4_000
NO_TEXT = "(No text.)"
NO_REASONING = "(The reasoning of this turn was not kept.)"
PLAIN_FIELDS = ("role", "content", "tool_calls", "name")
PLAIN_CALL_FIELDS = ("id", "type", "function")
NO_SIGNATURE: JsonObject = {"google": {"thought_signature": "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="}}
"""Gemini's stand-in for a function call that another model made: `skip_thought_signature_validator` in base64."""
CLAUDE = re.compile(r"claude[a-z0-9.-]*")
CLAUDE_VERSION = re.compile(r"(-\d{8}|-latest|-v\d+)+$")
FIRST_SIGNED_GEMINI = 3
GEMINI = re.compile(r"gemini-(\d+)")
REASONERS = re.compile(r"deepseek-(reasoner|r\d)|kimi-.*thinking|kimi-k[3-9]")


class Form(StrEnum):
    """The API form in which LiteLLM sends a turn."""

    CLAUDE = "claude"
    GEMINI = "gemini"
    CHAT = "chat"


FIELDS: dict[Form, tuple[str, ...]] = {
    Form.CLAUDE: ("thinking_blocks", "provider_specific_fields"),
    Form.GEMINI: ("reasoning_content", "provider_specific_fields"),
    Form.CHAT: ("reasoning_content", "thinking_blocks", "reasoning_items", "reasoning_details", "extra_content"),
}
"""The provider fields that each API form accepts back with a turn."""
CARRIED_FIELDS = (ORIGIN, *dict.fromkeys(name for names in FIELDS.values() for name in names))
"""The fields of a message that only its own model accepts back."""
CLAUDE_PROVIDERS = {"anthropic", "bedrock", "vertex_ai", "vertex_ai_beta", "azure_ai"}
GEMINI_PROVIDERS = {"gemini", "vertex_ai", "vertex_ai_beta"}
REASONING_FIELDS = {"groq": "reasoning", "cerebras": "reasoning", "openrouter": "reasoning"}
"""Providers that accept reasoning back under another name than `reasoning_content`."""
OPENAI_PROVIDERS = {"openai", "azure"}
WITHOUT_REASONING_FIELD = re.compile(r"(?:ft:)?(?:chatgpt|gpt-\d|o\d|gemini)")
"""Models whose own API returns no reasoning in OpenAI's form and refuses turns with such a field.

Any reasoning of theirs was found in the text."""


@dataclass(frozen=True)
class TurnReader:
    """Prepares earlier turns for a deployment."""

    entry: ModelEntry

    @cached_property
    def model(self) -> str:
        """The model's own name, in lower case."""
        return str(self.entry.priced_as).lower().rpartition("/")[2]

    @cached_property
    def origin(self) -> str:
        """The name that identifies the model's own turns; the same for Claude on all platforms."""
        claude = CLAUDE.search(self.model.replace("@", "-")) if self.form is Form.CLAUDE else None
        if claude is not None:
            return CLAUDE_VERSION.sub("", claude[0]).replace(".", "-")
        return f"{self.entry.provider}/{self.model}"

    @cached_property
    def form(self) -> Form:
        """The API form in which LiteLLM sends turns to it."""
        if self.entry.provider in CLAUDE_PROVIDERS and "claude" in self.model:
            return Form.CLAUDE
        return Form.GEMINI if self.entry.provider in GEMINI_PROVIDERS else Form.CHAT

    @cached_property
    def reasoning_field(self) -> str:
        """The name under which reasoning goes back."""
        return REASONING_FIELDS.get(self.entry.provider, "reasoning_content")

    @cached_property
    def takes_reasoning(self) -> bool:
        """Whether reasoning may go back as a field of its own."""
        return self.entry.provider not in OPENAI_PROVIDERS or not WITHOUT_REASONING_FIELD.match(self.model)

    def thinks(self, arguments: JsonObject) -> bool | None:
        """Return whether a call enables reasoning; `None` if it does not say."""
        asked = {**self.entry.params, **arguments}
        thinking, effort = asked.get("thinking"), asked.get("reasoning_effort")
        if isinstance(thinking, dict):
            return thinking.get("type") != "disabled"
        return None if effort is None else effort not in ("none", "disable")

    def wants_thinking(self, arguments: JsonObject) -> bool:
        """Return whether a turn with tool calls must begin with thinking; adaptive thinking may have none."""
        thinking = {**self.entry.params, **arguments}.get("thinking")
        is_adaptive = isinstance(thinking, dict) and thinking.get("type") == "adaptive"
        return self.form is Form.CLAUDE and bool(self.thinks(arguments)) and not is_adaptive

    def wants_reasoning(self, arguments: JsonObject, turns: list[JsonObject]) -> bool:
        """Return whether a turn with tool calls is refused unless it has its reasoning."""
        if self.form is not Form.CHAT or not self.takes_reasoning:
            return False
        if self.thinks(arguments) is False:
            return False
        shown = any(turn.get("reasoning_content") and turn.get(ORIGIN) == self.origin for turn in turns)
        is_reasoner = "deepseek" in self.model and bool(self.thinks(arguments))
        return shown or is_reasoner or bool(REASONERS.search(self.model))

    def wants_signatures(self, turns: list[JsonObject]) -> bool:
        """Return whether OpenAI's form refuses function calls without a thought signature; LiteLLM's form adds it."""
        if self.form is not Form.CHAT:
            return False
        version = GEMINI.search(self.model)
        own = [turn for turn in turns if turn.get(ORIGIN) == self.origin]
        signed = any("google" in (call.get("extra_content") or {}) for call in calls_of(own))
        return signed or (version is not None and int(version[1]) >= FIRST_SIGNED_GEMINI)


@dataclass(frozen=True)
class Placeholders:
    """The requirements for turns with tool calls, regardless of the model that made them."""

    reasoning: bool
    signatures: bool


def fit_turns(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments of a call with its earlier turns in the form that the model accepts."""
    messages: list[JsonObject] = arguments["messages"]
    if not any(message["role"] == "assistant" for message in messages):
        return arguments
    return {**arguments, "messages": list(fitted(messages, arguments, TurnReader(model.entry)))}


def fitted(messages: list[JsonObject], arguments: JsonObject, reader: TurnReader) -> Iterator[JsonObject]:
    """Yield the messages, turn by turn."""
    turns = [message for message in messages if message["role"] == "assistant"]
    in_words = reader.wants_thinking(arguments)
    stand_ins = Placeholders(reader.wants_reasoning(arguments, turns), reader.wants_signatures(turns))
    names: dict[str, str] = {}
    results: list[str] = []
    for message in messages:
        if message["role"] == "tool" and message.get("tool_call_id") in names:
            results.append(f"{names[message['tool_call_id']]}: {message.get('content')}")
            continue
        if results:
            yield result_message(results)
            results = []
        if message["role"] != "assistant":
            yield message
            continue
        turn = own_turn(message, reader, arguments) if message.get(ORIGIN) == reader.origin else foreign_turn(message)
        names = {}
        if in_words and turn.get("tool_calls") and not turn.get("thinking_blocks"):
            names = {call["id"]: call["function"]["name"] for call in turn["tool_calls"]}
            turn = turn_in_words(turn)
        elif turn.get("tool_calls"):
            add_placeholders(turn, message, reader, stand_ins)
        yield turn
    if results:
        yield result_message(results)


def own_turn(message: JsonObject, reader: TurnReader, arguments: JsonObject) -> JsonObject:
    """Return a turn of the same model, with all its provider fields."""
    turn = bare_turn(message)
    kept = {name: message[name] for name in FIELDS[reader.form] if message.get(name)}
    if reader.thinks(arguments) is False:
        kept.pop("thinking_blocks", None)
    if not reader.takes_reasoning:
        kept.pop("reasoning_content", None)
    if "reasoning_content" in kept:
        kept = {reader.reasoning_field: kept.pop("reasoning_content"), **kept}
    return {**turn, **kept}


def foreign_turn(message: JsonObject) -> JsonObject:
    """Return a turn of another model: its text, and its tool calls without provider fields."""
    turn = bare_turn(message)
    if calls := turn.get("tool_calls"):
        turn["tool_calls"] = [without_data(call) for call in calls]
    return turn


def portable(message: JsonObject) -> JsonObject:
    """Return a message without the fields that only its own model accepts."""
    kept = {name: value for name, value in message.items() if name not in CARRIED_FIELDS}
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [without_data(call) for call in calls]
    return kept


def without_data(call: JsonObject) -> JsonObject:
    """Return a tool call without provider fields."""
    return {name: call[name] for name in PLAIN_CALL_FIELDS if name in call}


def bare_turn(message: JsonObject) -> JsonObject:
    """Return a turn's text and tool calls, with arguments that are always JSON objects."""
    turn = {name: message[name] for name in PLAIN_FIELDS if name in message}
    text = turn.get("content")
    if calls := turn.get("tool_calls"):
        turn["tool_calls"] = [with_object(call) for call in calls]
    if isinstance(text, str) and not text.strip():
        turn["content"] = None  # providers refuse blank texts
    if not turn.get("content") and not turn.get("tool_calls"):
        turn["content"] = NO_TEXT
    return turn


def with_object(call: JsonObject) -> JsonObject:
    """Return a tool call whose arguments are a JSON object, as servers and chat templates require."""
    function = call["function"]
    text = function.get("arguments") or "{}"
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        text = json.dumps({INVALID: text[:MAX_INVALID_CHARACTERS]}, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def turn_in_words(turn: JsonObject) -> JsonObject:
    """Return a turn with its tool calls as text, for a model that accepts only its own calls."""
    calls = [f"Called {call['function']['name']} with {call['function']['arguments']}" for call in turn["tool_calls"]]
    said = [turn["content"]] if turn.get("content") else []
    return {"role": "assistant", "content": "\n".join([*said, *calls])}


def result_message(results: Iterable[str]) -> JsonObject:
    """Return the results of calls that were turned into text; each is fenced."""
    return {"role": "user", "content": "\n".join(["The results of these calls, as data:", *results])}


def add_placeholders(turn: JsonObject, message: JsonObject, reader: TurnReader, needed: Placeholders) -> None:
    """Add the fields that the model requires of every turn with tool calls."""
    if needed.reasoning and not turn.get(reader.reasoning_field):
        is_open = not message.get("thinking_blocks")
        turn[reader.reasoning_field] = (message.get("reasoning_content") if is_open else None) or NO_REASONING
    first, *others = turn["tool_calls"]
    if needed.signatures and "extra_content" not in first:
        turn["tool_calls"] = [{**first, "extra_content": NO_SIGNATURE}, *others]


def calls_of(turns: Iterable[JsonObject]) -> Iterator[JsonObject]:
    """Yield the tool calls of all turns."""
    for turn in turns:
        yield from turn.get("tool_calls") or ()
