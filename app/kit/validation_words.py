"""Validation messages for people who know neither pydantic nor regular expressions."""

from collections.abc import Mapping
from typing import Any

_WORDS: dict[str, str] = {}
"""The message for each pattern."""


def worded(pattern: str, words: str) -> str:
    """Return a pattern, and register the message for texts that do not match it."""
    _WORDS[pattern] = words
    return pattern


def words_of(pattern: str) -> str | None:
    """Return the message registered for a pattern, if any."""
    return _WORDS.get(pattern)


def message_of(error: Mapping[str, Any]) -> str:
    """Return the problem with a field; pydantic counts the characters of a validated text as items: correct that."""
    match error["type"], error.get("input"):
        case "string_pattern_mismatch", _:
            return words_of(error["ctx"]["pattern"]) or str(error["msg"])
        case "extra_forbidden", _:
            return "is not a known field"
        case "too_short", str():
            return f"String should have at least {characters(error['ctx']['min_length'])}"
        case "too_long", str():
            return f"String should have at most {characters(error['ctx']['max_length'])}"
        case _:
            return str(error["msg"]).removeprefix("Value error, ")


def characters(count: int) -> str:
    """Return a number of characters, in pydantic's words."""
    return f"{count} character{'' if count == 1 else 's'}"
