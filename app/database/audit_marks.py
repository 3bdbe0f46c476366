"""Marks for the audit log: the transaction of a change stores one, so that neither exists without the other.

Any room can leave marks; the consumer in `app.services.audit` turns them into entries. What is stored here is shown to
admins for years: no secret, no prompt and no text of a run belongs in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId
from pymongo import InsertOne

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import utc_now
from app.models.audit import AuditAction, AuditMark


@dataclass(frozen=True)
class Actor:
    """The author of a change.

    `type` is `api-key`, `token` or `anonymous` for callers of the API, `command-line` for commands, `seed` for seed
    files, and `service` for what the service does on its own.
    """

    type: str
    name: str


SERVICE = Actor("service", "dynamic-agents")
BY_SEEDS = Actor("seed", "seeds")


@dataclass(frozen=True)
class TreeRecord:
    """A tree whose events up to `last_seq` an entry records by their hash, which is computed later."""

    root_id: str
    last_seq: int


def audit_mark(
    action: AuditAction,
    actor: Actor,
    key: str,
    detail: JsonObject | None = None,
    *,
    kind: str | None = None,
    tree: TreeRecord | None = None,
    at: datetime | None = None,
) -> Raw:
    """Return a new mark that `actor` did `action` to the object with this key; `kind` defaults to the action's."""
    mark: Raw = {
        "_id": ObjectId(),
        "at": at or utc_now(),
        "actor": {"type": actor.type, "name": clean_json(actor.name)},
        "action": action.value,
        "target": {"kind": kind or action.value.partition(".")[0], "key": clean_json(key)},
        "detail": clean_json(detail or {}),
    }
    if tree is not None:
        mark["tree"] = {"rootExecutionId": tree.root_id, "lastSeq": tree.last_seq, "eventsHash": None}
    return mark


def end_mark(root_id: str, status: str, last_seq: int, at: datetime) -> Raw:
    """Return the mark of the end of a run tree with event `last_seq`."""
    tree = TreeRecord(root_id, last_seq)
    return audit_mark(AuditAction.EXECUTION_END, SERVICE, root_id, {"status": status}, tree=tree, at=at)


async def add_audit_marks(database: Database, marks: Iterable[Raw], session: Session) -> None:
    """Store marks inside the transaction of the changes that they record."""
    if documents := list(marks):
        await collection_of(database, AuditMark).insert_many(documents, session=session)


def mark_insert(mark: Raw) -> tuple[str, InsertOne[Raw]]:
    """Return the collection and the operation that store a mark, for callers that batch their writes."""
    return AuditMark.get_collection_name(), InsertOne(mark)
