"""Cutting oversized payloads: what a row and a frame show of them, and the whole that is kept beside the row."""

import hashlib
from typing import Any

import orjson

from app.kit.json_values import JsonObject

MAX_PAYLOAD_BYTES = 64 * 1024
PREVIEW_CHARACTERS = 4096
MAX_PREVIEW_BYTES = 32 * 1024


def truncate_event(event: JsonObject, text: bytes) -> JsonObject | None:
    """The event with each field over 64 KiB cut to its beginning; `None` when none is that large.

    `text` is the event's JSON; the cut event says `truncated` and gives its size and SHA-256, by which the whole is
    found again and can be checked.
    """
    if len(text) <= MAX_PAYLOAD_BYTES:
        return None
    cut = {name: beginning_of(value) for name, value in event.items() if size_of(value) > MAX_PAYLOAD_BYTES}
    if not cut:
        return None
    return event | cut | {"truncated": True, "size": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def size_of(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """A text's bytes, or those of any other value's JSON."""
    return len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))


def beginning_of(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """A value of the same shape with its long texts cut, or the beginning of its JSON where that is not enough."""
    shortened = shorten(value)
    if size_of(shortened) <= MAX_PREVIEW_BYTES:
        return shortened
    return orjson.dumps(shortened)[:PREVIEW_CHARACTERS].decode(errors="ignore")


def shorten(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """The value with every text cut to its first 4,096 characters."""
    match value:
        case str():
            return value[:PREVIEW_CHARACTERS]
        case dict():
            return {name: shorten(item) for name, item in value.items()}
        case list():
            return [shorten(item) for item in value]
        case _:
            return value
