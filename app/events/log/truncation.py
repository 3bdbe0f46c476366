"""The truncation of oversized payloads: rows and frames show a preview, and the full text is stored separately."""

import hashlib
from typing import Any

import orjson

from app.kit.json_values import JsonObject

MAX_PAYLOAD_BYTES = 64 * 1024
PREVIEW_CHARACTERS = 4096
MAX_PREVIEW_BYTES = 32 * 1024


def truncate_event(event: JsonObject, text: bytes) -> JsonObject | None:
    """Return the event with each field over 64 KiB truncated, or `None` if no field is that large.

    `text` is the event's JSON. The truncated event has `truncated`, and the size and SHA-256 by which the full text is
    found and verified.
    """
    if len(text) <= MAX_PAYLOAD_BYTES:
        return None
    cut = {name: preview_of(value) for name, value in event.items() if size_of(value) > MAX_PAYLOAD_BYTES}
    if not cut:
        return None
    return event | cut | {"truncated": True, "size": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def size_of(value: Any) -> int:  # noqa: ANN401 - any JSON value
    """Return the bytes of a text, or of the JSON of any other value."""
    return len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))


def preview_of(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """Return a value of the same shape with long texts cut, or else the beginning of its JSON."""
    shortened = shorten(value)
    if size_of(shortened) <= MAX_PREVIEW_BYTES:
        return shortened
    return orjson.dumps(shortened)[:PREVIEW_CHARACTERS].decode(errors="ignore")


def shorten(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """Return the value with every text cut to its first 4,096 characters."""
    match value:
        case str():
            return value[:PREVIEW_CHARACTERS]
        case dict():
            return {name: shorten(item) for name, item in value.items()}
        case list():
            return [shorten(item) for item in value]
        case _:
            return value
