"""The chain of the audit log: each entry's hash covers its content and the hash before it.

`hash` is the SHA-256 over the UTF-8 text of `previousHash`, 64 zeros for the first entry, followed by the RFC 8785 form
of the entry without its two hashes.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.database.connection import Raw
from app.kit.canonical_json import canonical_json
from app.kit.json_values import JsonObject
from app.kit.times import iso_milliseconds

NO_HASH = "0" * 64
"""The `previousHash` of the first entry."""
CONTENT = ("seq", "at", "actor", "action", "target", "detail")
"""The fields of an entry that its hash covers."""
FIELDS = frozenset({*CONTENT, "hash", "previousHash"})
STORED = frozenset({*CONTENT, "hash", "previousHash", "mark", "_id"} - {"seq"})
HEAD = re.compile(r"(0|[1-9][0-9]{0,14}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Head:
    """The last entry of a chain; an empty chain has the number 0."""

    seq: int = 0
    hash: str = NO_HASH

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class BadEntry:
    """An entry that does not match its hash or its place, and why."""

    seq: int
    reason: str


def parse_head(text: str) -> Head | None:
    """Return the head in a text such as `12:9f86…`, or `None` if it has another form."""
    match = HEAD.fullmatch(text.strip())
    return Head(int(match[1]), match[2]) if match else None


def entry_hash(previous_hash: str, content: JsonObject) -> str:
    """Return the hash of an entry without its two hashes.

    Raises:
        ValueError: the content is not JSON.
    """
    return hashlib.sha256(previous_hash.encode() + canonical_json(content)).hexdigest()


def linked(head: Head, marks: Iterable[Raw]) -> tuple[list[Raw], Head]:
    """Return the entries that continue a chain with what marks record, in stored form, and the chain's new head."""
    entries: list[Raw] = []
    for mark in marks:
        content: Raw = {name: mark[name] for name in ("at", "actor", "action", "target")}
        content["detail"] = {**mark["detail"], **tree_detail(mark)}
        shown = {**content, "seq": head.seq + 1, "at": iso_milliseconds(content["at"])}
        hashes = {"hash": entry_hash(head.hash, shown), "previousHash": head.hash}
        entries.append({"_id": head.seq + 1, **content, **hashes, "mark": mark["_id"]})
        head = Head(head.seq + 1, hashes["hash"])
    return entries, head


def tree_detail(mark: Raw) -> JsonObject:
    """Return what an entry says about the events of a tree."""
    tree: Any = mark.get("tree")
    if tree is None:
        return {}
    detail = {name: tree.get(name) for name in ("rootExecutionId", "lastSeq", "eventsHash")}
    return detail | ({"problem": tree["problem"]} if tree.get("problem") else {})


def shown_entry(raw: Raw) -> JsonObject:
    """Return a stored entry as the API shows it; unknown fields are kept, so that they are noticed."""
    at = raw.get("at")
    shown = {"seq": raw.get("_id"), **{name: value for name, value in raw.items() if name not in ("_id", "mark")}}
    return {**shown, "at": iso_milliseconds(at) if isinstance(at, datetime) else None}


def check_entries(head: Head, entries: Iterable[JsonObject]) -> tuple[Head, BadEntry | None]:
    """Check that shown entries continue a chain; return its head, and the first entry that does not continue it."""
    for entry in entries:
        wanted, seq = head.seq + 1, entry.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool) or seq < wanted:
            return head, BadEntry(wanted, f"entry {wanted} has the number {seq!r}"[:200])
        if seq > wanted:
            missing = (
                f"entry {wanted} is missing" if seq == wanted + 1 else f"entries {wanted} to {seq - 1} are missing"
            )
            return head, BadEntry(wanted, missing)
        if problem := problem_of(entry, head.hash):
            return head, BadEntry(seq, problem)
        head = Head(seq, str(entry["hash"]))
    return head, None


def problem_of(entry: JsonObject, previous_hash: str) -> str | None:
    """Return why an entry does not follow the entry with a hash, or `None` if it does."""
    if fields := sorted(FIELDS ^ entry.keys()):
        return f"its fields are not those of an entry: {', '.join(fields)[:100]}"
    if entry["previousHash"] != previous_hash:
        return "its previousHash is not the hash of the entry before it"
    try:
        expected = entry_hash(previous_hash, {name: entry[name] for name in CONTENT})
    except (ValueError, TypeError, RecursionError):
        return "it is not JSON"
    return None if entry["hash"] == expected else "its content does not match its hash"
