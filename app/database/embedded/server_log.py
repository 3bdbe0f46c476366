"""The reason why mongod ended, from its log."""

import json
from collections.abc import Mapping
from typing import Any, cast

LOADER_ERRORS = ("loading shared libraries", "not found (required by", "symbol lookup error", "Library not loaded")


def is_loader_error(reason: str) -> bool:
    """Return whether the system could not load the program."""
    return any(sign in reason for sign in LOADER_ERRORS)


def reason_in(lines: list[str]) -> str:
    """Return the first error in mongod's log, which causes the later ones, else the last unstructured line."""
    spoken = ""
    for line in lines:
        try:
            entry: Any = json.loads(line)
        except ValueError:
            spoken = line.strip() or spoken
            continue
        if isinstance(entry, dict) and cast(Mapping[str, Any], entry).get("s") in ("E", "F"):
            return _entry_text(cast(Mapping[str, Any], entry))
    return spoken


def _entry_text(entry: Mapping[str, Any]) -> str:
    """Return `msg` and the details in `attr`, whose place depends on the kind of entry."""
    attributes = entry.get("attr") or {}
    detail = attributes.get("error")
    if isinstance(detail, dict):
        detail = cast(Mapping[str, Any], detail).get("errmsg")
    message = attributes.get("message")
    if isinstance(message, dict):
        storage = cast(Mapping[str, Any], message)
        detail = f"{storage.get('msg')}: {storage.get('error_str')}"
    return f"{entry.get('msg')}: {detail}" if detail else str(entry.get("msg"))
