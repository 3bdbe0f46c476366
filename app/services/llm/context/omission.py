"""Omission of parts of a conversation: the turns that can be left out, and shortened texts."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from app.kit.json_values import JsonObject

HEAD_SHARE = 0.7
OPENING_LINE = re.compile(r"<<<([^\n<>]+) ([0-9a-f]{8})>>>\n")
CLOSING_LINE = re.compile(r"\n<<<END ([^\n<>]+) ([0-9a-f]{8})>>>")
TASK_LABELS = ("REQUEST", "ASSIGNMENT", "PARAMETERS")
"""The labels of fenced text that states the task; all other fenced text is material."""


def droppable_turns(messages: list[JsonObject], task: int | None) -> list[list[int]]:
    """Return the turns that can be omitted, the oldest first, each with the positions of its messages.

    A turn is an assistant's message with the results of its tool calls. A user's message before the task is omitted
    with the last turn that answers it, so that the rest begins with a user's message. From the task on, users' messages
    stay, as do the last turn before each of them and the very last turn.
    """
    begin = next((place for place, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if task is None:
        task = next((place for place, message in enumerate(messages) if message["role"] == "user"), begin)
    turns: list[list[int]] = []
    for asked, answers in exchanges(messages, begin):
        if not asked or asked[0] < task:
            turns += [*answers[:-1], [*asked, *answers[-1]]] if answers else [asked]
        else:
            turns += answers[:-1]
    return turns


def exchanges(messages: list[JsonObject], begin: int) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Yield each user's message with the turns that follow it."""
    asked: list[int] = []
    answers: list[list[int]] = []
    for place in range(begin, len(messages)):
        role = messages[place]["role"]
        if role == "tool" and answers:
            answers[-1].append(place)
        elif role == "assistant":
            answers.append([place])
        else:
            if asked or answers:
                yield asked, answers
            asked, answers = [place], []
    if asked or answers:
        yield asked, answers


def shortened_bytes(text: str, limit: int) -> str:
    """Return the beginning and end of a text that exceeds `limit` bytes, with a note on how to read the rest."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= limit:
        return text
    note = (
        f"\n\n[… {len(whole) - limit} of {len(whole)} bytes left out here. To read them, call the tool again for a "
        "smaller part of its result. …]\n\n"
    )
    return cut(whole, max(limit - len(note.encode()), 0), note)


def cut(whole: bytes, room: int, between: str) -> str:
    """Return the beginning and end of a text, `limit` bytes together, with a note between them."""
    head = int(room * HEAD_SHARE)
    tail = room - head
    end = whole[len(whole) - tail :].decode("utf-8", "ignore") if tail else ""
    return whole[:head].decode("utf-8", "ignore") + between + end


def shortened_text(text: str, limit: int) -> str:
    """Return the beginning and end of a text that is not a tool's result."""
    whole = text.encode("utf-8", "replace")
    if len(whole) <= limit:
        return text
    return cut(whole, limit, f"\n[… {len(whole) - limit} bytes left out …]\n")


def shortened_further(message: JsonObject, limit: int, *, texts_too: bool, requests_too: bool) -> JsonObject:
    """Return a message with each part shortened to `limit` bytes, except instructions and the task."""
    content, role = message.get("content"), message["role"]
    if role == "tool" and isinstance(content, str):
        return {**message, "content": shortened_bytes(content, limit)}
    if not texts_too or role == "system":
        return message
    short = dict(message)
    if isinstance(content, str):
        short["content"] = (
            shortened_text(content, limit) if role == "assistant" else shortened_fences(content, limit, requests_too)
        )
    if message.get("tool_calls"):
        short["tool_calls"] = [shortened_call(call, limit) for call in message["tool_calls"]]
    return short


def shortened_fences(text: str, limit: int, requests_too: bool) -> str:
    """Return a prompt with its fenced material shortened."""
    parts: list[str] = []
    end = 0
    for opening, closing in fences_in(text):
        if requests_too or opening[1] not in TASK_LABELS:
            inner = text[opening.end() : closing.start()]
            parts += [text[end : opening.end()], shortened_text(inner, limit)]
            end = closing.start()
    return "".join([*parts, text[end:]])


def fences_in(text: str) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    """Yield the opening and closing lines of the outermost fences, in linear time.

    A single expression for both lines would search for the end of every line that looks like a beginning.
    """
    closings: dict[tuple[str, str], list[re.Match[str]]] = {}
    for found in CLOSING_LINE.finditer(text):
        closings.setdefault((found[1], found[2]), []).append(found)
    end = 0
    for opening in OPENING_LINE.finditer(text):
        candidates = closings.get((opening[1], opening[2]), [])
        place = bisect_left(candidates, opening.end(), key=lambda one: one.start())
        if opening.start() >= end and place < len(candidates):
            end = candidates[place].end()
            yield opening, candidates[place]


def shortened_call(call: JsonObject, limit: int) -> JsonObject:
    """Return a tool call with the texts in its arguments shortened; the arguments stay a JSON object."""
    function: JsonObject = call.get("function") or {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str) or len(arguments) <= limit:
        return call
    try:
        short = json.dumps(shortened_values(json.loads(arguments), limit), ensure_ascii=False)
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": short}}


def shortened_values(value: Any, limit: int) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value with its long texts shortened."""
    match value:
        case str():
            return shortened_text(value, limit)
        case dict():
            return {name: shortened_values(item, limit) for name, item in value.items()}
        case list():
            return [shortened_values(item, limit) for item in value]
        case _:
            return value
