"""Verification of the audit log: the chain, and the stored events of every tree that it names."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.events.archive.reader import Archives
from app.kit.check_thread import in_check_thread
from app.models.audit import AuditEntry
from app.services.audit.appender import read_head
from app.services.audit.chain import BadEntry, Head, check_entries, shown_entry
from app.services.audit.tree_checks import BadTree, TreeChecks

ENTRIES_A_PAGE = 500
LOWEST: Raw = {"$gte": float("-inf")}
"""Selects numbers of any size."""


@dataclass(frozen=True)
class Verification:
    """The result of a verification, which stops at the first entry or tree that does not match."""

    checked: int
    """How many entries match."""
    trees: int
    """How many trees were compared with their entries."""
    bad: BadEntry | BadTree | None
    head: Head
    """The last entry that is stored."""


@dataclass
class AuditVerifier:
    """Verifies the audit log, once at a time: memory and load do not grow with callers or entries."""

    database: Database
    archives: Archives
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def verify(self, noted: Sequence[Head] = ()) -> Verification:
        """Check all entries, their trees, and that the chain still contains the heads recorded earlier.

        Raises:
            PyMongoError: the database is unavailable.
        """
        async with self._turn:
            trees = TreeChecks(self.database, self.archives)
            head, bad = await self._check_chain(trees, noted)
            return Verification(head.seq, trees.checked, bad, await read_head(self.database))

    async def _check_chain(self, trees: TreeChecks, noted: Sequence[Head]) -> tuple[Head, BadEntry | BadTree | None]:
        entries = collection_of(self.database, AuditEntry)
        head, beyond = Head(), LOWEST
        while raws := await entries.find({"_id": beyond}).sort("_id", 1).limit(ENTRIES_A_PAGE).to_list():
            shown = [shown_entry(raw) for raw in raws]
            before = head
            head, bad = await in_check_thread(check_entries, before, shown)
            good = shown[: head.seq - before.seq]
            found = await trees.check(good) or differs_from_noted(good, noted) or bad
            if found is not None:
                return head, found
            beyond = {"$gt": head.seq}
        if stray := await entries.find_one({"_id": {"$not": {"$type": "number"}}}, {"_id": 1}):
            return head, BadEntry(head.seq + 1, f"an entry has the number {stray['_id']!r}"[:200])
        return head, missing_end(head, noted)


def differs_from_noted(entries: Sequence[Raw], noted: Sequence[Head]) -> BadEntry | None:
    """Return the first entry whose hash differs from that of a head recorded earlier."""
    expected = {head.seq: head.hash for head in noted}
    for entry in entries:
        if expected.get(entry["seq"], entry["hash"]) != entry["hash"]:
            return BadEntry(entry["seq"], "its hash differs from that of the head recorded earlier")
    return None


def missing_end(head: Head, noted: Sequence[Head]) -> BadEntry | None:
    """Return the first missing entry, if the chain was longer when a head was recorded."""
    longest = max((one.seq for one in noted), default=0)
    if longest <= head.seq:
        return None
    return BadEntry(head.seq + 1, f"the chain ends with entry {head.seq}, but reached entry {longest} earlier")
