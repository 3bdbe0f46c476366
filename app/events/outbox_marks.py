"""The marks of the outbox in stored executions, and the claims by which each mark is applied once.

Inside a transaction, changing an execution takes MongoDB more than ten times as long as outside one; the time grows
with the number of indexes, and executions have 33. So the transaction of a batch stores a claim for each mark and
leaves the mark in place. The marks are removed after the commit, and then the claims. A process that finds a mark with
a claim does not apply it again; it only removes both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pymongo
from pymongo import UpdateOne

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import TRANSACTION_SECONDS, Session
from app.failpoints import failpoint
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution
from app.models.outbox_claim import OutboxClaim

MARKS_FIELD = "outbox"
"""The field of an execution with the marks by consumer, and under each consumer by the mark's id."""
ORPHANED_AFTER = timedelta(hours=1)
ORPHANS_AT_ONCE = 500


@dataclass(frozen=True)
class Mark:
    """A mark for a consumer in a stored execution."""

    execution: Any
    """The `_id` of the execution."""
    field: str
    """The field of the consumer's marks."""
    key: str | None
    """The mark's id in the field; `None` if the whole field is the mark."""

    @property
    def claim_id(self) -> str:
        """The `_id` of the mark's claim."""
        return f"{self.execution}/{self.path}"

    @property
    def path(self) -> str:
        """The place of the mark in the execution."""
        return self.field if self.key is None else f"{self.field}.{self.key}"


def root_of(field: str) -> str:
    """Return the top-level field that a field is in."""
    return field.partition(".")[0]


def marks_in(raw: Raw, field: str) -> list[Mark]:
    """Return the marks in a consumer's field of an execution."""
    root, _, name = field.partition(".")
    if not name:
        return [Mark(raw["_id"], field, None)] if root in raw else []
    marks: Any = raw.get(root)
    if not isinstance(marks, dict) or name not in marks:
        return []
    kept: Any = marks[name]
    return [Mark(raw["_id"], field, key) for key in kept] if isinstance(kept, dict) else [Mark(raw["_id"], field, None)]


def with_marks(raw: Raw, field: str, marks: Iterable[Mark]) -> Raw:
    """Return an execution with only some of the marks in a consumer's field."""
    root, _, name = field.partition(".")
    keys = {mark.key for mark in marks}
    if not name or None in keys:
        return raw
    kept = {key: content for key, content in raw[root][name].items() if key in keys}
    return {**raw, root: {**raw[root], name: kept}}


async def claim_new(database: Database, marks: Sequence[Mark], session: Session) -> set[Mark]:
    """Store claims for the marks that have none, inside a transaction; return these marks.

    Of two transactions that claim the same mark, MongoDB aborts one.
    """
    claims = collection_of(database, OutboxClaim)
    ids = [mark.claim_id for mark in marks]
    claimed = {raw["_id"] async for raw in claims.find({"_id": {"$in": ids}}, {"_id": 1}, session=session)}
    new = [mark for mark in marks if mark.claim_id not in claimed]
    if new:
        at = utc_now()
        stored = [{"_id": mark.claim_id, "execution": mark.execution, "field": mark.path, "at": at} for mark in new]
        await claims.insert_many(stored, session=session)
    return set(new)


async def remove_applied(database: Database, batch: Sequence[Raw], marks: Sequence[Mark]) -> None:
    """Remove marks that have been applied from their executions, and then their claims.

    If another process removed or added marks meanwhile, the claims stay until `remove_orphans` or the next batch.

    Raises:
        PyMongoError: the database is unavailable; the marks that are left are removed with the next batch.
    """
    executions = collection_of(database, AgentExecution)
    failpoint("after-outbox-commit")
    if updates := removals(batch, marks):
        with pymongo.timeout(TRANSACTION_SECONDS):  # a transaction that a killed process left open may lock some
            result = await executions.bulk_write(updates, ordered=False)
            if result.matched_count < len(updates):  # another process changed some; claims stay
                single = [UpdateOne({"_id": mark.execution}, {"$unset": {mark.path: ""}}) for mark in marks if mark.key]
                if single:
                    await executions.bulk_write(single, ordered=False)
                return
    failpoint("after-outbox-removal")
    if marks:
        await collection_of(database, OutboxClaim).delete_many({"_id": {"$in": [mark.claim_id for mark in marks]}})


def removals(batch: Sequence[Raw], marks: Iterable[Mark]) -> list[UpdateOne]:
    """Return the updates that remove marks, and the whole field `outbox` with the last of its marks.

    They match executions whose marks are as they were read. A newer version beside this one may have consumers that
    this one does not know: their marks are kept.
    """
    fields: dict[Any, set[str]] = {raw["_id"]: set() for raw in batch}
    for mark in marks:
        fields[mark.execution].add(mark.field)
    updates: list[UpdateOne] = []
    for raw in batch:
        applied = fields[raw["_id"]]
        outbox: Any = raw.get(MARKS_FIELD)
        removed = {name: raw[name] for name in applied if name in raw}
        if isinstance(outbox, dict):
            others = [name for name, kept in outbox.items() if kept != {} and f"{MARKS_FIELD}.{name}" not in applied]
            nested = {name: outbox[name.partition(".")[2]] for name in applied if root_of(name) != name}
            removed |= nested if others else {MARKS_FIELD: outbox}
        if removed:
            unchanged = {name: {"$eq": value} for name, value in removed.items()}
            updates.append(UpdateOne({"_id": raw["_id"], **unchanged}, {"$unset": dict.fromkeys(removed, "")}))
    return updates


async def remove_orphans(database: Database) -> None:
    """Remove old claims whose marks have been removed: their process died in between.

    Raises:
        PyMongoError: the database is unavailable.
    """
    claims = collection_of(database, OutboxClaim)
    old = {"at": {"$lt": utc_now() - ORPHANED_AFTER}}
    async for claim in claims.find(old).sort("at", 1).limit(ORPHANS_AT_ONCE):
        marked = {"_id": claim["execution"], claim["field"]: {"$exists": True}}
        if not await collection_of(database, AgentExecution).find_one(marked, {"_id": 1}):
            await claims.delete_one({"_id": claim["_id"]})
