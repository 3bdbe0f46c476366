"""Comparison of trees with the hashes of their events in the audit log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.reader import Archives
from app.events.log.full_events import tree_payload_parts
from app.events.marked_trees import AUDIT_CONSUMER
from app.events.outbox import field_of
from app.events.tree_states import CutEvent, TreeState, tree_states
from app.kit.check_thread import in_check_thread
from app.kit.json_values import JsonObject
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution
from app.models.audit import AuditAction, AuditEntry, AuditMark

GONE = (AuditAction.EXECUTION_DELETE.value, AuditAction.EXECUTION_ARCHIVE.value)


@dataclass(frozen=True)
class RecordedTree:
    """A tree in an entry: the hash of its events up to a number."""

    seq: int
    """The number of the entry."""
    root_id: str
    last_seq: int
    events_hash: str


@dataclass(frozen=True)
class BadTree:
    """A tree that differs from what an entry says about it, and how."""

    root_id: str
    reason: str


@dataclass
class TreeChecks:
    """Checks the trees that entries name; `checked` counts them."""

    database: Database
    archives: Archives
    checked: int = 0

    async def check(self, entries: Sequence[JsonObject]) -> BadTree | None:
        """Check the trees whose latest hash is in these entries; return the first that differs.

        Trees that have been deleted since are skipped. An archived one is compared by its archive.

        Raises:
            PyMongoError: the database is unavailable.
        """
        recorded = await self._latest([one for entry in entries if (one := recorded_tree(entry))])
        if not recorded:
            return None
        gone = await self._gone([one.root_id for one in recorded])
        kept = [one for one in recorded if AuditAction.EXECUTION_DELETE not in gone.get(one.root_id, ())]
        states = await tree_states(self.database, {one.root_id: one.last_seq for one in kept})
        for one in kept:
            self.checked += 1
            state = states[one.root_id]
            if reason := await self._difference(one, state, gone.get(one.root_id, frozenset())):
                return BadTree(one.root_id, reason)
        return None

    async def _latest(self, recorded: list[RecordedTree]) -> list[RecordedTree]:
        """Skip trees for which another entry covers more events, or the same ones. The entry of a review can precede
        the entry of the reviewed end, because the outbox creates the latter later.
        """
        roots = [one.root_id for one in recorded]
        pipeline = [
            {"$match": {"detail.rootExecutionId": {"$in": roots}, "detail.eventsHash": {"$type": "string"}}},
            {"$sort": {"detail.lastSeq": 1, "_id": 1}},
            {
                "$group": {
                    "_id": "$detail.rootExecutionId",
                    "last": {"$last": "$_id"},
                }
            },
        ]
        async with await self._entries.aggregate(pipeline) as found:
            last = {raw["_id"]: raw["last"] async for raw in found}
        return [one for one in recorded if last.get(one.root_id, one.seq) == one.seq]

    async def _gone(self, roots: list[str]) -> dict[str, frozenset[str]]:
        """Return which trees were deleted or archived, also by changes whose entry is pending."""
        selector = {"target.kind": "execution", "target.key": {"$in": roots}, "action": {"$in": GONE}}
        gone: dict[str, frozenset[str]] = {}
        for collection in (self._marks, self._entries):  # in the order in which a change passes through them
            async for raw in collection.find(selector, {"target.key": 1, "action": 1}):
                key = raw["target"]["key"]
                gone[key] = gone.get(key, frozenset()) | {raw["action"]}
        return gone

    async def _difference(self, one: RecordedTree, state: TreeState, gone: frozenset[str]) -> str | None:
        """Return how a tree differs from its entry, or `None` if it does not.

        A difference that is explained by a change whose entry is still to come does not count.
        """
        if state.is_archived and AuditAction.EXECUTION_ARCHIVE in gone:
            return await self._archive_difference(one)
        found = state_difference(one, state) or await self._payload_difference(one, state.cut)
        if found is None or await self._has_changed_since(one, is_longer=bool(state.beyond)):
            return None
        return found

    async def _archive_difference(self, one: RecordedTree) -> str | None:
        """Return how the archive of a tree differs from its entry; a missing one cannot match."""
        fields = {"rootExecutionId": 1, "archivedAt": 1, "archive": 1}
        raw = await collection_of(self.database, AgentExecution).find_one({"executionId": one.root_id}, fields)
        archive = self.archives.find(raw) if raw else None
        try:
            manifest = await archive.verify() if archive else None
        except ArchiveUnreadable as error:
            return f"its archive cannot be read: {error.problem}"
        if manifest is None or manifest.events_sha256 == one.events_hash:
            return None
        return f"its archive has different events than entry {one.seq} recorded"

    async def _payload_difference(self, one: RecordedTree, cut: Sequence[CutEvent]) -> str | None:
        """Return which full payload of the truncated events is missing or changed."""
        for event in cut:
            digest, size = hashlib.sha256(), 0
            async for part in tree_payload_parts(self.database, one.root_id, event.seq, event.sha256):
                await in_check_thread(digest.update, part)
                size += len(part)
            if (size, digest.hexdigest()) != (event.size, event.sha256):
                return f"the full payload of event {event.seq} is missing or has changed"
        return None

    async def _has_changed_since(self, one: RecordedTree, *, is_longer: bool) -> bool:
        """Whether the tree was deleted, archived or continued after its entry was read, with a newer entry still to
        come.

        A change passes from the execution to the marks and from there to the entries, so they are read in this order.
        """
        fields = {"status": 1, field_of(AUDIT_CONSUMER): 1}
        root = await collection_of(self.database, AgentExecution).find_one({"executionId": one.root_id}, fields)
        if is_longer and root is not None:
            marks: Any = (root.get("outbox") or {}).get(AUDIT_CONSUMER)
            if marks or root.get("status") not in TERMINAL_STATUSES:
                return True
            if await self._marks.find_one({"tree.rootExecutionId": one.root_id}, {"_id": 1}):
                return True
        if await self._gone([one.root_id]):
            return True
        newer = {"detail.rootExecutionId": one.root_id, "detail.lastSeq": {"$gt": one.last_seq}}
        return is_longer and await self._entries.find_one(newer, {"_id": 1}) is not None

    @property
    def _entries(self) -> Collection:
        return collection_of(self.database, AuditEntry)

    @property
    def _marks(self) -> Collection:
        return collection_of(self.database, AuditMark)


def recorded_tree(entry: Raw) -> RecordedTree | None:
    """Return what an entry says about a tree, if anything."""
    detail: Any = entry["detail"]
    root_id, last_seq, events_hash = (detail.get(name) for name in ("rootExecutionId", "lastSeq", "eventsHash"))
    if not isinstance(root_id, str) or not isinstance(last_seq, int) or not isinstance(events_hash, str):
        return None
    return RecordedTree(entry["seq"], root_id, last_seq, events_hash)


def state_difference(one: RecordedTree, state: TreeState) -> str | None:
    """Return how the stored events of a tree differ from those that an entry recorded."""
    if state.status is None:
        return f"it is missing, and no entry says that it was deleted (its events are those of entry {one.seq})"
    if state.problem is not None:
        return state.problem
    if state.hashed.hexdigest() != one.events_hash:
        return f"its stored events are not those that entry {one.seq} recorded"
    if state.beyond:
        return f"{state.beyond} stored events follow event {one.last_seq}, with which entry {one.seq} says that it ends"
    return None
