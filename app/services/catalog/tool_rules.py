"""Rules for changes of a custom tool that do not need the sandbox, mainly the order of versions."""

import re
from typing import cast

from app.database.connection import Raw
from app.errors import InvalidInput
from app.kit.json_values import JsonObject
from app.models.catalog.custom_tool import ToolSource
from app.services.catalog.writer import CatalogWriteConflict

MAX_VERSION_CHARACTERS = 256
"""A longer text was not stored through the API and is not a version; Python would refuse to parse its digits."""
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
VERSIONED = {"executeFunction": "the code", "inputSchema": "the schema"}

Precedence = tuple[int, int, int, bool, list[tuple[bool, int, str]]]


class ToolIsBuiltin(CatalogWriteConflict):
    """A built-in tool can only be changed in the service's code."""

    code = "custom-tool-builtin"

    def __init__(self, tool_name: str) -> None:
        super().__init__(f"The tool {tool_name!r} is built in: change it in the code of the service.")


def refuse_builtin(raw: Raw) -> None:
    """Refuse to change a built-in tool.

    Raises:
        ToolIsBuiltin: the tool is built in.
    """
    if raw.get("source") == ToolSource.BUILTIN:
        raise ToolIsBuiltin(str(raw.get("toolName")))


def require_risen_version(stored: JsonObject, changed: JsonObject) -> None:
    """Require that each version of a tool has one code and one schema; `changed` is the tool after the change.

    Raises:
        InvalidInput: the code or the schema changes and the version does not increase, or the version decreases and
            could increase to a used one later.
    """
    parts = [words for name, words in VERSIONED.items() if not same_json(stored.get(name), changed.get(name))]
    before, after = str(stored.get("version") or ""), str(changed.get("version") or "")
    if parts and precedence(after) <= precedence(before):
        message = f"must be greater than {before or 'the stored version'} because {' and '.join(parts)} changed"
        raise InvalidInput.of_field("version", message)
    if precedence(after) < precedence(before):
        raise InvalidInput.of_field("version", f"must not be lower than {before}, which recorded calls refer to")


def same_json(first: object, second: object) -> bool:
    """Return whether two values are the same JSON; `true` differs from 1, but 1.0 does not."""
    if isinstance(first, dict) and isinstance(second, dict):
        left, right = cast("JsonObject", first), cast("JsonObject", second)
        return left.keys() == right.keys() and all(same_json(left[name], right[name]) for name in left)
    if isinstance(first, list) and isinstance(second, list):
        pairs = list(zip(cast("list[object]", first), cast("list[object]", second), strict=False))
        return len(first) == len(second) and all(same_json(left, right) for left, right in pairs)
    return isinstance(first, bool) is isinstance(second, bool) and first == second


def precedence(version: str) -> Precedence:
    """Return the sort key of a semantic version without its build; an invalid stored version sorts first."""
    found = VERSION.fullmatch(version) if len(version) <= MAX_VERSION_CHARACTERS else None
    if found is None:
        return (-1, 0, 0, False, [])
    major, minor, patch, pre = found.groups()
    return (int(major), int(minor), int(patch), pre is None, [identifier(part) for part in (pre or "").split(".")])


def identifier(part: str) -> tuple[bool, int, str]:
    """Return the sort key of a pre-release identifier: numbers by value, before words."""
    return (False, int(part), "") if part.isdecimal() else (True, 0, part)
