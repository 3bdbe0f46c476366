"""Queries of audit entries, in the shape of the API."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.errors import InvalidInput
from app.kit.json_values import JsonObject, clean_json
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import ApiModel, Page, Timestamp
from app.models.audit import AuditEntry
from app.services.audit.chain import shown_entry

STORED_SORTS = {"seq": "_id", "-seq": "-_id"}
EXPORT_ENTRIES = 500


class ActorRead(ApiModel):
    """The author of a change."""

    type: str
    """`api-key`, `token` or `anonymous` for a caller of the API, `command-line` for a command, `seed` for a seed file,
    `service` for the service itself."""
    name: str
    """The name of the key or of the token's subject, or of the user who ran the command."""


class TargetRead(ApiModel):
    """The thing that was changed."""

    kind: str
    """Its kind: `department`, `agent`, `custom-tool`, `weights`, `api-key`, `budget`, `execution` or `approval`."""
    key: str
    """Its natural key or its id at that time."""


class AuditEntryRead(ApiModel):
    """An entry of the audit log."""

    seq: int
    """The number of the entry: 1, 2, 3 … without a gap."""
    at: Timestamp
    """When the change was made."""
    actor: ActorRead
    """The author of the change."""
    action: str
    """The change, such as `agent.update`: the kind of the target, and a verb."""
    target: TargetRead
    """Its target: the thing that was changed."""
    detail: dict[str, Any]
    """More about the change, without secrets, prompts or texts. At the end of a run tree and after a review, `lastSeq`
    is the number of its last event and `eventsHash` the SHA-256 over its events; `problem` says why it is missing."""
    hash: str
    """The SHA-256 over `previousHash` and the RFC 8785 form of the entry without its two hashes, in lower-case
    hexadecimal digits."""
    previous_hash: str
    """The hash of the entry before; 64 zeros in the first one."""

    @classmethod
    def of(cls, raw: Raw) -> "AuditEntryRead":
        """Convert a stored entry. An entry that someone has altered is shown as far as possible."""
        shown = clean_json(shown_entry(raw) | {"at": None})
        actor, target, detail = (shown.get(name) for name in ("actor", "target", "detail"))
        return cls(
            seq=shown["seq"],
            at=raw["at"],
            actor=ActorRead(type=text_in(actor, "type"), name=text_in(actor, "name")),
            action=str(shown.get("action")),
            target=TargetRead(kind=text_in(target, "kind"), key=text_in(target, "key")),
            detail=detail if isinstance(detail, dict) else {},
            hash=str(shown.get("hash")),
            previous_hash=str(shown.get("previousHash")),
        )


@dataclass(frozen=True)
class AuditFilter:
    """The entries of a list; unset fields select all. `action` can end with `.*`, `target` is `kind/key`."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def selector(self) -> JsonObject:
        """Return the MongoDB selector.

        Raises:
            InvalidInput: `target` has no kind or no key.
        """
        selector: JsonObject = {}
        if self.actor is not None:
            selector["actor.name"] = self.actor
        if self.action is not None:
            kind = self.action.removesuffix(".*")
            selector["action"] = self.action if kind == self.action else {"$regex": f"^{re.escape(kind)}\\."}
        if self.target is not None:
            kind, _, key = self.target.partition("/")
            if not kind or not key:
                raise InvalidInput.of_field("target", "must be KIND/KEY, such as agent/plot-specialist-001")
            selector |= {"target.kind": kind, "target.key": key}
        bounds = {"$gte": self.since, "$lt": self.until}
        if given := {name: value for name, value in bounds.items() if value is not None}:
            selector["at"] = given
        return selector


@dataclass(frozen=True)
class AuditQueries:
    """Lists and exports the entries."""

    database: Database

    async def list_entries(self, wanted: AuditFilter, page: PageRequest) -> Page:
        """Return a page of entries; those without a number or a time, which `verify` names, are left out.

        Raises:
            InvalidInput: the cursor does not belong to this list, or the filter is invalid.
        """
        stored = PageRequest(page.limit, STORED_SORTS[page.sort], page.cursor)
        found = await read_page(self._entries, wanted.selector(), stored)
        items = [AuditEntryRead.of(raw) for raw in found.raws if is_showable(raw)]
        return Page(items, found.total, found.next_cursor)

    async def export(self) -> AsyncGenerator[JsonObject]:
        """Yield all entries as they are shown, by their numbers.

        Raises:
            PyMongoError: the database is unavailable.
        """
        beyond: Raw = {}
        while raws := await self._entries.find(beyond).sort("_id", 1).limit(EXPORT_ENTRIES).to_list():
            for raw in raws:
                yield clean_json(shown_entry(raw))
            beyond = {"_id": {"$gt": raws[-1]["_id"]}}

    @property
    def _entries(self) -> Collection:
        return collection_of(self.database, AuditEntry)


def is_showable(raw: Raw) -> bool:
    """Return whether an entry has a number and a time."""
    return isinstance(raw["_id"], int) and isinstance(raw.get("at"), datetime)


def text_in(value: Any, name: str) -> str:  # noqa: ANN401 - any stored value
    """Return a text of a stored object, which is empty in a damaged one."""
    return str(value.get(name, "")) if isinstance(value, dict) else ""
