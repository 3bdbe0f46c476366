"""The canonical form of JSON (RFC 8785) and its digest, which is the same in every language."""

import hashlib
from typing import Any

import orjson
import rfc8785

from app.kit.json_limits import MAX_INTEGER, JsonObject

LARGEST_CANONICAL = MAX_INTEGER - 1
"""RFC 8785 takes greater integers as the doubles that they are in JavaScript."""


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the canonical form of a JSON value, in UTF-8.

    Raises:
        ValueError: the value has a number that JSON cannot represent, or is not a JSON value.
    """
    try:
        return orjson.dumps(prepared(value), option=orjson.OPT_SORT_KEYS)
    except (UnsortableKey, orjson.JSONEncodeError):
        return rfc8785.dumps(with_doubles(value))


def canonical_digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a value's canonical form, in lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class UnsortableKey(Exception):
    """A key that orjson would sort by code points, where RFC 8785 requires UTF-16 order."""


def prepared(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, one that orjson writes canonically out
    """Return the value as orjson writes it in the canonical form, many times as fast as RFC 8785's library.

    orjson writes texts and integers canonically and sorts ASCII keys alike; doubles are written here.

    Raises:
        UnsortableKey: an object has a key beyond ASCII.
        ValueError: the value has a number that JSON cannot represent, or is not a JSON value.
    """
    match value:
        case str() | bool() | None:
            return value
        case int():
            return value if abs(value) <= LARGEST_CANONICAL else orjson.Fragment(rfc8785.dumps(float(value)))
        case float():
            return orjson.Fragment(rfc8785.dumps(value))
        case dict():
            fields: JsonObject = value
            if not all(name.isascii() for name in fields):
                raise UnsortableKey
            return {name: prepared(item) for name, item in fields.items()}
        case list() | tuple():
            return [prepared(item) for item in value]
        case _:
            raise ValueError(f"{type(value).__name__} is not a JSON value")


def with_doubles(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
    """Return the value with plain types only, in which integers beyond 2^53 - 1 are doubles."""
    match value:
        case bool() | None | str() | float():
            return value
        case int():
            return int(value) if abs(value) <= LARGEST_CANONICAL else float(value)
        case dict():
            fields: JsonObject = value
            return {name: with_doubles(item) for name, item in fields.items()}
        case _:
            return [with_doubles(item) for item in value]
