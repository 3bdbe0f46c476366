"""Ids of tool calls in the form that a model accepts, the same for a call and its result.

A conversation can contain calls of another provider's model, or ids that the agent loop made unique.
"""

import hashlib
import re
from dataclasses import dataclass

from app.kit.json_values import JsonObject
from app.services.llm.model_info.capabilities import Capabilities, Wire

MAX_TRIES = 1_000


@dataclass(frozen=True)
class IdForm:
    """The pattern that an id must match, and the length of the ids that replace others."""

    pattern: re.Pattern[str]
    length: int


COMMON = IdForm(re.compile(r"[a-zA-Z0-9_-]{1,64}"), 24)
"""The form that OpenAI, Anthropic and most others accept."""
FORMS = {Wire.MISTRAL: IdForm(re.compile(r"[a-zA-Z0-9]{9}"), 9)}
KEPT_AS_THEY_ARE = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})
"""Providers for which LiteLLM keeps a thought signature within an id; their requests have no ids."""


def fit_call_ids(arguments: JsonObject, model: Capabilities) -> JsonObject:
    """Return the arguments with every tool call's id, and every result's, in the model's form."""
    messages: list[JsonObject] = arguments.get("messages") or []
    if model.server in KEPT_AS_THEY_ARE:
        return arguments
    form = FORMS.get(model.wire, COMMON)
    given = ids_in(messages)
    if all(form.pattern.fullmatch(identity) for identity in given):
        return arguments
    renamed = new_ids(given, form)
    return {**arguments, "messages": [with_ids(message, renamed) for message in messages]}


def ids_in(messages: list[JsonObject]) -> dict[str, None]:
    """Return every id of a conversation, once, in their order."""
    found: dict[str, None] = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            found[str(call.get("id"))] = None
        if message.get("tool_call_id") is not None:
            found[str(message["tool_call_id"])] = None
    return found


def new_ids(given: dict[str, None], form: IdForm) -> dict[str, str]:
    """Return a replacement for each id: the id itself if it is accepted, otherwise a unique digest."""
    taken = {identity for identity in given if form.pattern.fullmatch(identity)}
    renamed = {identity: identity for identity in taken}
    for identity in given:
        if identity in renamed:
            continue
        made = next(one for number in range(MAX_TRIES) if (one := digest(identity, number, form)) not in taken)
        taken.add(made)
        renamed[identity] = made
    return renamed


def digest(identity: str, number: int, form: IdForm) -> str:
    """Return an id of letters and digits, always the same for the same original."""
    text = f"{identity}\0{number}".encode("utf-8", "replace")
    return hashlib.sha256(text).hexdigest()[: form.length]


def with_ids(message: JsonObject, renamed: dict[str, str]) -> JsonObject:
    """Return a message with its ids replaced."""
    changed = dict(message)
    if message.get("tool_calls"):
        changed["tool_calls"] = [{**call, "id": renamed[str(call.get("id"))]} for call in message["tool_calls"]]
    if message.get("tool_call_id") is not None:
        changed["tool_call_id"] = renamed[str(message["tool_call_id"])]
    return changed
