"""Rules of changing a custom tool that need no sandbox: which version may follow which."""

import re
from typing import cast

from app.database.connection import Raw
from app.errors import InvalidInput
from app.kit.json_values import JsonObject
from app.models.custom_tool import ToolSource
from app.services.catalog.writer import CatalogWriteConflict

MAX_VERSION_CHARACTERS = 256
"""What is longer was stored past the API, and is no version; Python would refuse to convert its digits."""
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
VERSIONED = {"executeFunction": "the code", "inputSchema": "the schema"}

Precedence = tuple[int, int, int, bool, list[tuple[bool, int, str]]]


class ToolIsBuiltin(CatalogWriteConflict):
    """A built-in tool is changed in its code alone."""

    code = "custom-tool-builtin"

    def __init__(self, tool_name: str) -> None:
        super().__init__(f"The tool {tool_name!r} is built in: it is changed in the service's own code, not here.")


def refuse_builtin(raw: Raw) -> None:
    """Keep a built-in tool as the service's own code has it.

    Raises:
        ToolIsBuiltin: it is one.
    """
    if raw.get("source") == ToolSource.BUILTIN:
        raise ToolIsBuiltin(str(raw.get("toolName")))


def require_risen_version(stored: JsonObject, changed: JsonObject) -> None:
    """Hold a tool to one code and one schema a version; `changed` is the tool as it would be.

    Raises:
        InvalidInput: code or schema change, and the version does not rise; or it falls, and could rise a second time.
    """
    parts = [words for name, words in VERSIONED.items() if not same_json(stored.get(name), changed.get(name))]
    before, after = str(stored.get("version") or ""), str(changed.get("version") or "")
    if parts and precedence(after) <= precedence(before):
        message = f"must rise above {before or 'what is stored'}, because {' and '.join(parts)} changed"
        raise InvalidInput.of_field("version", message)
    if precedence(after) < precedence(before):
        raise InvalidInput.of_field("version", f"must not fall below {before}, which calls are recorded with")


def same_json(one: object, other: object) -> bool:
    """Whether two values are the same JSON: `true` is not 1, and 1.0 is."""
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("JsonObject", one), cast("JsonObject", other)
        return left.keys() == right.keys() and all(same_json(left[name], right[name]) for name in left)
    if isinstance(one, list) and isinstance(other, list):
        pairs = list(zip(cast("list[object]", one), cast("list[object]", other), strict=False))
        return len(one) == len(other) and all(same_json(left, right) for left, right in pairs)
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def precedence(version: str) -> Precedence:
    """What semantic versions are ordered by, builds left out; what somebody stored that is none comes before all."""
    found = VERSION.fullmatch(version) if len(version) <= MAX_VERSION_CHARACTERS else None
    if found is None:
        return (-1, 0, 0, False, [])
    major, minor, patch, pre = found.groups()
    return (int(major), int(minor), int(patch), pre is None, [identifier(part) for part in (pre or "").split(".")])


def identifier(part: str) -> tuple[bool, int, str]:
    """A part of a pre-release: numbers by their value, before words."""
    return (False, int(part), "") if part.isdecimal() else (True, 0, part)
