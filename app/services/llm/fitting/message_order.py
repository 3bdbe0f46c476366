"""Messages in an order, and with texts, that a model accepts."""

from app.kit.json_values import JsonObject
from app.services.llm.model_info.capabilities import Capabilities, Wire

BETWEEN = "I have the results."
"""The model's turn to insert between a tool's result and a user's turn, for providers that require one."""
CONTINUE = "Continue."
NOTHING_SAID = "(nothing)"
WITHOUT_PREFILL = frozenset({Wire.ANTHROPIC, Wire.MISTRAL})
"""Providers that refuse a conversation that ends with the model's own turn."""


def fit_order(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with their messages in the model's order and without blank texts."""
    messages = [with_text(message) for message in arguments.get("messages") or ()]
    if not model.takes_user_after_tool:
        messages = with_turns_between(messages)
    if messages and messages[-1]["role"] == "assistant" and model.wire in WITHOUT_PREFILL:
        messages.append({"role": "user", "content": CONTINUE})
    return {**arguments, "messages": messages}


def with_text(message: JsonObject) -> JsonObject:
    """Return a message without blank parts; a blank text is replaced with a note."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part for part in content if not is_blank(part)]
        if parts:
            return message if len(parts) == len(content) else {**message, "content": parts}
    elif content is not None and str(content).strip():
        return message
    return {**message, "content": None if message.get("tool_calls") else NOTHING_SAID}


def is_blank(part: object) -> bool:
    """Return whether a content part is a blank text."""
    return isinstance(part, dict) and part.get("type") == "text" and not str(part.get("text") or "").strip()


def with_turns_between(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the messages with a model's turn inserted wherever a user's turn directly follows a tool's result."""
    ordered: list[JsonObject] = []
    for message in messages:
        if message["role"] == "user" and ordered and ordered[-1]["role"] == "tool":
            ordered.append({"role": "assistant", "content": BETWEEN})
        ordered.append(message)
    return ordered
