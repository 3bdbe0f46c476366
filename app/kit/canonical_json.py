"""The canonical form of JSON (RFC 8785) and its digest, which every language computes alike."""

import hashlib
from typing import Any

import rfc8785

from app.kit.json_limits import MAX_INTEGER, JsonObject

LARGEST_CANONICAL = MAX_INTEGER - 1
"""RFC 8785 takes greater integers as the doubles that they are in JavaScript."""


def canonical_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the canonical form of a JSON value, in UTF-8.

    Raises:
        ValueError: the value has a number that JSON cannot represent.
    """
    return rfc8785.dumps(with_doubles(value))


def canonical_digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the SHA-256 of a value's canonical form, in lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


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
