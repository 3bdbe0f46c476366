"""JSON values that MongoDB, JavaScript and every client can hold: made so from what models and tools produce."""

import math
import reprlib
from typing import Any

from app.kit.json_limits import MAX_INTEGER, MAX_STORED_NESTING, JsonObject


def clean_text(text: str) -> str:
    """The text without lone surrogates, which neither UTF-8 nor BSON can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_json(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """The value as BSON and JSON can both hold it.

    Integers beyond 2^53 become floats, NaN and the infinities `null`, lone surrogates `?`; keys lose NUL; what is
    nested deeper than 64 becomes a short text about it. An object that MongoDB's drivers would read back as a
    reference has its `$id` renamed `_$id`.
    """
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(value)
        case int():
            return int(value) if abs(value) <= MAX_INTEGER else clean_float(value)  # BSON's Int64 is an int too
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
    """The key without NUL, which ends a key in BSON."""
    return clean_text(str(key)).replace("\0", "")


def without_reference(value: JsonObject) -> JsonObject:
    """The object, so changed that no driver takes it for a DBRef: with `$ref`, `$id` and nothing odd as `$db`."""
    if isinstance(value.get("$ref"), str):
        return {"_$id" if key == "$id" else key: item for key, item in value.items()}
    return value


def clean_float(value: int) -> float | None:
    """The nearest double, or `None` beyond its range."""
    try:
        return float(value)
    except OverflowError:
        return None
