"""The limits of JSON that MongoDB, JavaScript and every client can hold."""

from typing import Any, cast

JsonObject = dict[str, Any]
"""A JSON object: strings to JSON values."""

MAX_INTEGER = 2**53
"""The largest integer that a double holds with all its neighbors."""
MAX_NESTING = 32
"""How deep a value that a client sends may be nested."""
MAX_STORED_NESTING = 64
"""How deep a value that models and tools produce is stored."""


def count_values(value: object, limit: int) -> int:
    """How many values a JSON value consists of, counted no further than the limit."""
    count, left = 0, [value]
    while left and count < limit:
        children = children_of(left.pop())
        count += 1
        if len(children) >= limit:
            return limit
        left.extend(children)
    return count


def children_of(node: object) -> list[object]:
    """The values directly inside a JSON value."""
    if isinstance(node, dict):
        return list(cast("dict[str, object]", node).values())
    return cast("list[object]", node) if isinstance(node, list) else []
