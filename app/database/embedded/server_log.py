"""What mongod says in its log about its end."""

import json
from collections.abc import Mapping
from typing import Any, cast


def reason_in(lines: list[str]) -> str:
    """The first error in mongod's log, which is the cause of those after it; else its last line that is no entry."""
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
    """`msg` and the part of `attr` that says more, which is in another place for each kind of entry."""
    attributes = entry.get("attr") or {}
    detail = attributes.get("error")
    if isinstance(detail, dict):
        detail = cast(Mapping[str, Any], detail).get("errmsg")
    message = attributes.get("message")
    if isinstance(message, dict):
        storage = cast(Mapping[str, Any], message)
        detail = f"{storage.get('msg')}: {storage.get('error_str')}"
    return f"{entry.get('msg')}: {detail}" if detail else str(entry.get("msg"))
