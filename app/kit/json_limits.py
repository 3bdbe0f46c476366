"""The limits of JSON that MongoDB, JavaScript and every client support."""

from typing import Any, cast

JsonObject = dict[str, Any]
"""A JSON object."""

MAX_INTEGER = 2**53
"""2^53: doubles represent every integer up to here exactly."""
MAX_NESTING = 32
"""The maximum depth of a value that a client sends."""
MAX_VALUES = 100_000
"""The maximum number of values in what a client sends; objects and arrays count twice.

A value costs far more memory and time than its text.
"""
MAX_STORED_NESTING = 64
"""The maximum depth to which a value of a model or tool is stored."""


def count_values(value: object, limit: int) -> int:
    """Count the values in a JSON value, up to a limit."""
    count, left = 0, [value]
    while left and count < limit:
        children = children_of(left.pop())
        count += 1
        if len(children) >= limit:
            return limit
        left.extend(children)
    return count


def children_of(node: object) -> list[object]:
    """Return the values directly inside a JSON value."""
    if isinstance(node, dict):
        return list(cast("dict[str, object]", node).values())
    return cast("list[object]", node) if isinstance(node, list) else []
