"""Markers for prompt caches that work only where a request asks for them, as Anthropic's does.

A provider keeps the request up to a marker, and reads it at a fraction of the price when a later request begins in the
same way. Other providers recognize repeated beginnings by themselves and get no markers.
"""

from app.kit.json_values import JsonObject
from app.services.llm.model_info.capabilities import Capabilities

MARKER: JsonObject = {"type": "ephemeral"}
"""Asks for the shortest lifetime, five minutes since the last use."""


def fit_cache_markers(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with at most two markers: after the instructions, and after a conversation with tools.

    Anthropic accepts four. It places tools before the instructions, so the first marker covers them too. The
    second one is for the next turn, which repeats the conversation.
    """
    if not model.takes_cache_markers:
        return arguments
    messages: list[JsonObject] = list(arguments.get("messages") or ())
    places = [place for place, message in enumerate(messages) if message["role"] == "system"][-1:]
    if messages and (arguments.get("tools") or any(message["role"] == "tool" for message in messages)):
        places.append(len(messages) - 1)
    for place in dict.fromkeys(places):
        messages[place] = marked(messages[place])
    return {**arguments, "messages": messages}


def fit_shared(arguments: JsonObject, model: Capabilities, shared: str | None) -> JsonObject:
    """Return the arguments with a marker after the part of the last message that other requests share.

    The message is then sent in two parts. That makes three markers at most; a message that was shortened gets none.
    """
    messages: list[JsonObject] = arguments.get("messages") or []
    content = messages[-1].get("content") if messages else None
    if not shared or not model.takes_cache_markers or not isinstance(content, str):
        return arguments
    rest = content.removeprefix(shared)
    if rest == content or not rest.strip():
        return arguments
    parts = [{"type": "text", "text": shared, "cache_control": MARKER}, {"type": "text", "text": rest}]
    return {**arguments, "messages": [*messages[:-1], {**messages[-1], "content": parts}]}


def marked(message: JsonObject) -> JsonObject:
    """Return a message whose last part has a marker."""
    content = message.get("content")
    if isinstance(content, list) and content and isinstance(content[-1], dict):
        return {**message, "content": [*content[:-1], {**content[-1], "cache_control": MARKER}]}
    return {**message, "cache_control": MARKER}
