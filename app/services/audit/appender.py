"""The consumer of audit marks: it makes entries of them, which continue one chain over all processes.

Every process runs one, and none waits for another. The number of an entry is its `_id`: of two processes that continue
the chain from the same entry, the database refuses the second, which then reads the new head and tries again. The mark
of an entry is unique too, and is removed once its entry is stored with majority; so a process can die anywhere, and the
next one completes what it began. No transaction is open meanwhile that a dead process could leave behind.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import structlog
from pymongo.errors import BulkWriteError, PyMongoError

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.events.marked_trees import hashed_marks
from app.failpoints import failpoint
from app.models.audit import AuditEntry, AuditMark
from app.services.audit.chain import NO_HASH, Head, linked

BATCH_MARKS = 200
LOOK_EVERY_SECONDS = 1.5
CONFLICT_PAUSE_SECONDS = 0.05
MAX_CONFLICTS = 50
LAST_SECONDS = 1.0
DUPLICATE_KEY = 11000

log = structlog.get_logger(__name__)


@dataclass
class AuditAppender:
    """Appends the entries of pending marks in one process."""

    database: Database
    look_every_seconds: float = LOOK_EVERY_SECONDS
    _head: Head | None = field(default=None, init=False)
    """The head after this process's last batch; the database refuses entries that continue an older one."""

    @property
    def head(self) -> Head | None:
        """The head after the last batch of this process, if it is known."""
        return self._head

    async def run(self) -> None:
        """Append entries until cancelled. Processes look at different times, so that they rarely collide."""
        while True:
            try:
                while await self.append_pending() == BATCH_MARKS:
                    pass
            except PyMongoError as error:
                log.warning("audit-append-failed", error=type(error).__name__)
            except Exception:
                log.exception("audit-append-crashed")
            await asyncio.sleep(self.look_every_seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret

    async def append_rest(self) -> None:
        """Append the entries of all pending marks, as far as the database allows it in a second.

        A process that stops leaves no mark behind that would wait for the next one.
        """
        with contextlib.suppress(TimeoutError, PyMongoError):
            async with asyncio.timeout(LAST_SECONDS):
                while await self.append_pending() == BATCH_MARKS:
                    pass

    async def append_pending(self) -> int:
        """Append the entries of the oldest marks, up to a batch; return the number of marks that are settled.

        Raises:
            PyMongoError: the database is unavailable.
        """
        marks = await self._marks.find().sort([("at", 1), ("_id", 1)]).limit(BATCH_MARKS).to_list()
        if not marks:
            return 0
        marks = await hashed_marks(self.database, marks)
        for _ in range(MAX_CONFLICTS):
            if await self._append(marks):
                break
            self._head = None
            await asyncio.sleep(CONFLICT_PAUSE_SECONDS * random.random())  # noqa: S311 - no secret
        else:
            log.warning("audit-append-postponed", marks=len(marks))
            return 0
        failpoint("after-audit-append")
        await self._marks.delete_many({"_id": {"$in": [mark["_id"] for mark in marks]}})
        return len(marks)

    async def _append(self, marks: list[Raw]) -> bool:
        """Append those entries that are not stored yet; return whether all are stored now.

        The insertion is ordered: whatever interrupts it, the entries that it stored continue the chain without a gap.
        """
        stored = {raw["mark"] async for raw in self._entries.find(with_marks(marks), {"mark": 1})}
        head = self._head or await read_head(self.database)
        entries, new_head = linked(head, [mark for mark in marks if mark["_id"] not in stored])
        self._head = None
        if entries:
            failpoint("before-audit-append")
            try:
                await self._entries.insert_many(entries, ordered=True)
            except BulkWriteError as error:
                if all(one.get("code") == DUPLICATE_KEY for one in error.details.get("writeErrors", [{}])):
                    return False
                raise
        self._head = new_head
        return True

    @property
    def _marks(self) -> Collection:
        return collection_of(self.database, AuditMark)

    @property
    def _entries(self) -> Collection:
        return collection_of(self.database, AuditEntry)


def with_marks(marks: list[Raw]) -> Raw:
    """Return the selector of the entries that were made from marks."""
    return {"mark": {"$in": [mark["_id"] for mark in marks]}}


async def read_head(database: Database) -> Head:
    """Return the last entry that the majority of the database has.

    Raises:
        PyMongoError: the database is unavailable.
    """
    numbered = {"_id": {"$type": "number"}}
    found = await collection_of(database, AuditEntry).find(numbered, {"hash": 1}).sort("_id", -1).limit(1).to_list()
    return Head(int(found[0]["_id"]), str(found[0].get("hash", NO_HASH))) if found else Head()
