"""Merging of the text events in a model's event stream before LiteLLM parses them.

A provider sends an event for every few letters of an answer, and LiteLLM spends about 0.4 ms of CPU on each. Events
that differ only in their text are merged into one; the texts are shown as they arrive. Two formats are recognized:
OpenAI's chat completion chunks and Anthropic's content block deltas. All other events pass through unchanged.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson

from app.kit.json_values import JsonObject

MAX_MERGED_CHARACTERS = 16_000
"""Merged text is passed on at this length, so that the size limits of an answer still apply."""
LONE_RETURN = re.compile(rb"\r[^\n]")
"""A line that ends with a lone carriage return, which the standard allows; such a stream is not merged."""
VARYING = ("created", "obfuscation")
"""Fields of OpenAI's chunks that may differ between merged events; the first event's are kept."""
TEXT_BESIDE = {"content": {"content", "role"}, "text": {"text", "type"}}
"""The text field of OpenAI's and of Anthropic's delta, with the fields that a delta of a text event may have."""


@dataclass
class LiveText:
    """Passes the text of one streamed call to those who follow the answer."""

    show: Callable[[str], None] | None
    idle_seconds: float
    limit: asyncio.Timeout | None = None
    """The timeout for LiteLLM's next chunk."""
    characters_ahead: int = 0
    """The number of characters that have been shown but that LiteLLM has not returned yet."""

    def show_ahead(self, text: str) -> None:
        """Show text before LiteLLM gets it, and restart the timeout, because the stream has not stalled."""
        self.characters_ahead += len(text)
        if self.show:
            self.show(text)
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + self.idle_seconds)

    def show_rest(self, text: str) -> None:
        """Show the part of LiteLLM's text that has not been shown yet."""
        shown = min(self.characters_ahead, len(text))
        self.characters_ahead -= shown
        if self.show and len(text) > shown:
            self.show(text[shown:])


live_text: ContextVar[LiveText | None] = ContextVar("live_text", default=None)
"""The text of the streamed call in progress, if its events may be merged."""


class TextEventMerger:
    """Merges the text events in the bytes of one event stream.

    The first text event passes through unchanged: LiteLLM then knows that the stream has begun, and no fallback answers
    after text has been shown. So does text that equals the text before it, because LiteLLM stops a model that repeats
    itself.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._unfinished = b""
        """The last line so far, if it is incomplete."""
        self._name = b""
        """The `event:` line of the current event."""
        self._has_begun = False
        self._first: JsonObject = {}
        """The first of the merged events; its text is filled in by `take`."""
        self._first_name = b""
        self._delta: JsonObject = {}
        self._field = ""
        self._texts: list[str] = []
        self._characters = 0
        self._last_text = ""
        self._is_off = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Take the next bytes of the stream, and yield the bytes that LiteLLM should parse now.

        Ask for the next piece only after LiteLLM has parsed this one; otherwise texts are shown out of order.
        """
        if self._is_off:
            yield part
            return
        data = self._unfinished + part
        if LONE_RETURN.search(data):
            self._is_off, self._unfinished = True, b""
            yield self.take() + self._take_name() + data
            return
        *lines, self._unfinished = data.split(b"\n")
        for line in lines:
            if ready := self._read(line):
                yield ready

    def take(self) -> bytes:
        """Return the merged event, or nothing if no events are waiting to be passed on."""
        if not self._texts:
            return b""
        self._delta[self._field] = "".join(self._texts)
        self._texts.clear()
        self._characters = 0
        return self._first_name + b"data: " + orjson.dumps(self._first) + b"\n\n"

    def end(self) -> bytes:
        """Return everything that has not been passed on when the stream ends."""
        return self.take() + self._take_name() + self._unfinished

    def _take_name(self) -> bytes:
        name, self._name = self._name, b""
        return name

    def _read(self, line: bytes) -> bytes:
        """Read a line without its line feed, and return the bytes that LiteLLM should parse now."""
        content = line.rstrip(b"\r")
        if not content and self._texts:
            return b""
        if content.startswith(b"event:") and not self._name:
            self._name = line + b"\n"
            return b""
        name = self._take_name()
        event = parsed(content[5:]) if content.startswith(b"data:") else None
        found = text_of(event) if event is not None else None
        if event is None or found is None:
            return self.take() + name + line + b"\n" if content else name + b"\n"
        delta, key = found
        text: str = delta[key]
        if not self._has_begun or text == self._last_text:
            self._has_begun, self._last_text = True, text
            return self.take() + name + line + b"\n"
        return self._merge(event, name, delta, key)

    def _merge(self, event: JsonObject, name: bytes, delta: JsonObject, key: str) -> bytes:
        """Merge a text event with the previous ones; if it differs in more than its text, return those instead."""
        text: str = delta.pop(key)
        for field in VARYING:
            if field in self._first and field in event:
                event[field] = self._first[field]
        self._delta.pop(self._field, None)
        is_alike = bool(self._texts) and name == self._first_name and event == self._first
        taken = b"" if is_alike else self.take()
        if not is_alike:
            self._first, self._first_name, self._delta, self._field = event, name, delta, key
        self._texts.append(text)
        self._characters += len(text)
        self._last_text = text
        self._show(text)
        return taken + self.take() if self._characters >= MAX_MERGED_CHARACTERS else taken


def parsed(data: bytes) -> JsonObject | None:
    """Return the JSON object in the data of an event, or `None` if it is something else."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def text_of(event: JsonObject) -> tuple[JsonObject, str] | None:
    """Return the delta of a text event and the name of its text field; `None` for an event with any other content."""
    if event.get("type") == "content_block_delta":
        return text_in(event.get("delta"), "text")
    choices = event.get("choices")
    if not isinstance(choices, list) or event.get("usage") or event.get("error"):
        return None
    rows: list[Any] = choices
    if len(rows) != 1 or not isinstance(rows[0], dict):
        return None
    choice: JsonObject = rows[0]
    return None if choice.get("finish_reason") else text_in(choice.get("delta"), "content")


def text_in(delta: Any, field: str) -> tuple[JsonObject, str] | None:  # noqa: ANN401 - any JSON value
    """Return the delta and the name of its text field, if it has text and nothing else."""
    if not isinstance(delta, dict):
        return None
    known: JsonObject = delta
    text = known.get(field)
    if not isinstance(text, str) or not text:
        return None
    beside = TEXT_BESIDE[field]
    return (known, field) if all(name in beside or not value for name, value in known.items()) else None
