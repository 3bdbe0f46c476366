"""Conversion of values from models and tools to JSON that MongoDB, JavaScript and every client support."""

import json
import math
import reprlib
from typing import Any

from app.kit.json_limits import MAX_INTEGER, MAX_STORED_NESTING, JsonObject


def compact_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON without spaces, for prompts: spaces are a quarter of the tokens of a typical tool result."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def clean_text(text: str) -> str:
    """Replace lone surrogates, which neither UTF-8 nor BSON can encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """Convert a value to one that both BSON and JSON can represent.

    Integers beyond 2^53 become floats, NaN and infinities `null`, lone surrogates `?`. Keys lose NUL. A value nested
    deeper than 64 levels becomes a short text. In an object that MongoDB's drivers would read as a reference, `$id` is
    renamed to `_$id`.
    """
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(value)
        case int():
            return int(value) if abs(value) <= MAX_INTEGER else clean_float(value)  # BSON's Int64 is also an int
        case float():
            return value if math.isfinite(value) else None
        case _ if depth >= MAX_STORED_NESTING:
            return clean_text(reprlib.repr(value))
        case dict():
            cleaned = {clean_key(key): clean_json(item, depth + 1) for key, item in value.items()}
            return without_reference(cleaned) if "$id" in cleaned else cleaned
        case list() | tuple():
            return [clean_json(item, depth + 1) for item in value]
        case _:
            return clean_text(str(value))


def clean_key(key: object) -> str:
    """Remove NUL from a key, because it ends a key in BSON."""
    return clean_text(str(key)).replace("\0", "")


def without_reference(value: JsonObject) -> JsonObject:
    """Rename the `$id` of an object with a `$ref`, so that no driver reads it as a DBRef."""
    if isinstance(value.get("$ref"), str):
        return {"_$id" if key == "$id" else key: item for key, item in value.items()}
    return value


def clean_float(value: int) -> float | None:
    """Return the nearest double, or `None` beyond the range of doubles."""
    try:
        return float(value)
    except OverflowError:
        return None
