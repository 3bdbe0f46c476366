"""The durable log of one run tree: the only way to change an execution that is running.

`append` numbers events and queues them; one writer stores the queue in order, in groups, by compare-and-set on
`fence` and `lastSeq`, with majority write concern, and then publishes them. Therefore subscribers see only events that
a later replay has, numbers have no gaps, a repeated write is stored once, and a process that lost the tree writes
nothing.

A document takes 2,000 rows or 1 MiB of them; the rest goes to pages, each bounded too, so that an event costs the same
however many came before it. A group with rows on pages is one transaction with the guarded update of its documents.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any

import bson
import structlog
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    PyMongoError,
    WriteConcernError,
)

from app.database.collections import Collection, collection_of
from app.database.connection import Database
from app.database.transactions import in_transaction
from app.events.log.log_rows import ROW_BYTES, GroupWrite, Row, SideWrite, Stored, bounded_groups, write_of
from app.events.log.truncation import truncate_event
from app.events.stream.bus import Committed, Ending, EventBus
from app.events.types import AgentDelta, Event, Frame, stamp
from app.failpoints import failpoint
from app.kit.concurrency import end_tasks
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import iso_milliseconds, utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.execution_events import EventPayload, ExecutionEventPage
from app.telemetry.metrics import COMMIT_SECONDS

GROUPING_SECONDS = 0.008
UNWATCHED_GROUPING_SECONDS = 0.03
"""With no follower, more events share a write; a crash can lose at most this much of a run's last steps."""
MAX_QUEUED_ITEMS = 10_000
RETRY_FOR_SECONDS = 12.0
RETRY_PAUSE_SECONDS = 0.2
CLOSING_SECONDS = 2.0
TRANSIENT = (AutoReconnect, ConnectionFailure, ExecutionTimeout, WriteConcernError)

log = structlog.get_logger(__name__)


class TreeLost(Exception):
    """This process no longer owns the run tree: another took it over, or the database was unavailable for too long."""


@dataclass(slots=True, eq=False)
class ChildInsert:
    """A child execution that is being inserted into the tree."""

    execution: AgentExecution
    done: asyncio.Future[None]


def ignore_row(_: Row) -> None:
    """Do nothing with a stored row."""


@dataclass
class TreeLog:
    """The log of a tree that this process owns, from `fence` on.

    `last_seq` is the last assigned number. `on_lost` is called once when the tree is lost, so that its owner stops.
    """

    database: Database
    bus: EventBus
    root_id: str
    fence: int
    last_seq: int
    on_lost: Callable[[], None]
    holds: Callable[[], bool] = lambda: True
    """Returns whether this process certainly holds the lease."""
    on_stored: Callable[[Row], None] = ignore_row
    """Called with each row once it is stored."""
    _documents: dict[str, Stored] = field(default_factory=dict)
    _queue: list[Row | ChildInsert] = field(default_factory=list)
    _child_inserts: set[ChildInsert] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _urgent: asyncio.Event = field(default_factory=asyncio.Event)
    _stored: asyncio.Condition = field(default_factory=asyncio.Condition)
    _stored_seq: int = 0
    _lost: TreeLost | None = None
    _writer: asyncio.Task[None] | None = None

    def open(self, documents: Mapping[str, Stored]) -> None:
        """Start the writer; `documents` are the tree's current documents by execution id."""
        self._documents = dict(documents)
        self._stored_seq = self.last_seq
        self._writer = asyncio.create_task(self._write_queue(), name=f"log {self.root_id}")

    def append(
        self,
        execution_id: str,
        *events: Event,
        changes: Mapping[str, Any] | None = None,
        side_writes: Sequence[SideWrite] = (),
    ) -> list[JsonObject]:
        """Number the events and queue them as one row group; `changes` are set together with the last of them.

        The `side_writes` change other documents in the same transaction.

        Returns the full events at once; oversized ones are stored and shown truncated.

        Raises:
            TreeLost: this process no longer owns the tree.
        """
        if self._lost:
            raise self._lost
        changed = changes or {}
        status = changed.get("status")
        timestamp = iso_milliseconds(utc_now())
        stamped: list[JsonObject] = []
        for event in events:
            self.last_seq += 1
            raw = clean_json(
                stamp(event, seq=self.last_seq, execution_id=execution_id, root_id=self.root_id, timestamp=timestamp)
            )
            stamped.append(raw)
            last = len(stamped) == len(events)
            ending = (
                Ending(execution_id, ExecutionStatus(status), self.last_seq) if last and is_terminal(status) else None
            )
            row = self._row(raw, changed if last else {}, ending, completes=last)
            row.side_writes = tuple(side_writes) if last else ()
            self._queue.append(row)
        self._wake.set()
        return stamped

    def _row(self, event: JsonObject, changes: Mapping[str, Any], ending: Ending | None, *, completes: bool) -> Row:
        """Return the row of an event, in its document or on a page once that is full, truncated if it is oversized."""
        document = self._documents[event["executionId"]]
        frame, full_text = Frame(event), None
        if (cut := truncate_event(event, frame.data)) is not None:
            event, frame, full_text = cut, Frame(cut), frame.data
        size_bytes = len(bson.encode(event)) + ROW_BYTES
        page = document.place(frame.seq, size_bytes)
        return Row(
            document=document.id,
            page=page,
            event=event,
            frame=frame,
            size_bytes=size_bytes,
            changes=changes,
            ending=ending,
            completes=completes,
            full_text=full_text,
            begins_pages=document.pages_from == frame.seq,
        )

    def ensure_owned(self) -> None:
        """Refuse work that only the owner may start, such as a model call or a tool.

        Raises:
            TreeLost: this process no longer owns the tree, or may no longer own it.
        """
        if self._lost or not self.holds():
            raise self._lost or TreeLost("The lease may have expired.")

    async def room(self) -> None:
        """Wait until the queue has room. Run code calls this once per step, so a slow database slows the run."""
        while len(self._queue) > MAX_QUEUED_ITEMS:
            await self.committed()

    async def committed(self) -> None:
        """Wait until every appended event is stored with majority and published.

        Raises:
            TreeLost: this process lost the tree before they were stored.
        """
        target = self.last_seq
        self._urgent.set()
        async with self._stored:
            await self._stored.wait_for(lambda: self._stored_seq >= target or self._lost is not None)
        if self._stored_seq < target and self._lost:
            raise self._lost

    async def add_child(self, execution: AgentExecution) -> None:
        """Store a new execution of the tree after all events appended before, guarded by the root's fence.

        Raises:
            TreeLost: this process no longer owns the tree.
        """
        if self._lost:
            raise self._lost
        execution.fence = self.fence
        child_insert = ChildInsert(execution, asyncio.get_running_loop().create_future())
        self._queue.append(child_insert)
        self._child_inserts.add(child_insert)
        self._wake.set()
        self._urgent.set()
        try:
            await child_insert.done
        finally:
            self._child_inserts.discard(child_insert)

    def show_delta(self, execution_id: str, agent_id: str, text: str) -> None:
        """Publish live text to the subscribers that want it; nothing is stored."""
        self.bus.publish_delta(
            AgentDelta(execution_id=execution_id, root_execution_id=self.root_id, agent_id=agent_id, text=text)
        )

    async def close(self) -> None:
        """Stop the writer once every appended event is stored, or at once if the tree or the database is lost."""
        if self._writer is None:
            return
        with contextlib.suppress(TreeLost, TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.committed()
        await end_tasks(self._writer)
        await self._lose("The log was closed.", notify=False)

    async def _write_queue(self) -> None:
        """Store the queue in order while the tree is owned."""
        try:
            while True:
                await self._wake.wait()
                await self._linger()
                self._wake.clear()
                self._urgent.clear()
                items, self._queue = self._queue, []
                for is_child_insert, group in groupby(items, key=lambda item: isinstance(item, ChildInsert)):
                    if is_child_insert:
                        await self._insert_children([item for item in group if isinstance(item, ChildInsert)])
                    else:
                        await self._store_rows([item for item in group if isinstance(item, Row)])
        except TreeLost as lost:
            await self._lose(str(lost), notify=True)
        except Exception as error:  # any error must release the callers that wait for this writer
            log.error("log-write-failed", root=self.root_id, error=type(error).__name__, exc_info=True)
            await self._lose(f"MongoDB refused a write of this run ({type(error).__name__}).", notify=True)

    async def _linger(self) -> None:
        """Wait a few milliseconds for more events to join the group, unless a caller waits for it."""
        if not self._urgent.is_set():
            seconds = GROUPING_SECONDS if self.bus.may_be_followed(self.root_id) else UNWATCHED_GROUPING_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._urgent.wait()

    async def _store_rows(self, rows: list[Row]) -> None:
        """Store rows in groups of bounded size and publish each once it is stored."""
        for group in bounded_groups(rows):
            failpoint("before-commit")
            with COMMIT_SECONDS.time():
                await self._until_stored(group)
            failpoint("after-commit")
            for row in group:
                self.on_stored(row)
            self.bus.publish(
                Committed(
                    self.root_id,
                    tuple(row.frame for row in group),
                    tuple(row.ending for row in group if row.ending),
                )
            )
            async with self._stored:
                self._stored_seq = group[-1].seq
                self._stored.notify_all()

    async def _until_stored(self, group: list[Row]) -> None:
        """Write the group by compare-and-set, and repeat the write until it is known to be stored.

        Repeating is safe: once the rows are stored, `lastSeq` has advanced and the update no longer matches.
        """
        write = write_of(group, self.fence)
        async for _ in self._attempts():
            with passing_faults():
                if await self._write(write) == len(write.documents) or await self._has_landed(group):
                    return
                raise TreeLost("Another process has taken this run over.")

    async def _write(self, write: GroupWrite) -> int:
        """Write a group and return how many documents matched; a single update is cheaper than a bulk write."""
        if write.payloads:
            await collection_of(self.database, EventPayload).bulk_write(write.payloads, ordered=False)
        if write.pages or write.side_writes:
            return await in_transaction(self.database, lambda session: self._write_together(session, write))
        if len(write.documents) == 1:
            return (await self._collection.update_one(*write.documents[0])).matched_count
        bulk = [UpdateOne(*update) for update in write.documents]
        return (await self._collection.bulk_write(bulk, ordered=True)).matched_count

    async def _write_together(self, session: AsyncClientSession, write: GroupWrite) -> int:
        """Write the guarded documents, and the pages and side writes only if all of them matched."""
        bulk = [UpdateOne(*update) for update in write.documents]
        matched = (await self._collection.bulk_write(bulk, ordered=True, session=session)).matched_count
        if matched != len(bulk):
            await session.abort_transaction()
            return matched
        if write.pages:
            pages = collection_of(self.database, ExecutionEventPage)
            await pages.bulk_write(write.pages, ordered=True, session=session)
        for name, same in groupby(write.side_writes, key=lambda one: one.collection):
            operations = [one.operation for one in same]
            await self.database[name].bulk_write(operations, ordered=True, session=session)
        return matched

    async def _has_landed(self, group: list[Row]) -> bool:
        """Return whether an earlier attempt stored the group and its reply was lost."""
        last = {row.document: row.seq for row in group}
        landed = [{"_id": document, "fence": self.fence, "lastSeq": {"$gte": seq}} for document, seq in last.items()]
        return await self._collection.count_documents({"$or": landed}) == len(landed)

    async def _insert_children(self, child_inserts: list[ChildInsert]) -> None:
        """Insert children in one transaction that also updates the root under its fence."""
        executions = [child_insert.execution for child_insert in child_inserts]
        for execution in executions:
            execution.id = execution.id or ObjectId()  # pyright: ignore[reportAttributeAccessIssue] - PydanticObjectId is one
        documents = [execution.as_stored() for execution in executions]
        async for _ in self._attempts():
            with passing_faults():
                await in_transaction(self.database, lambda session: self._insert_guarded(session, documents))
                break
        for child_insert in child_inserts:
            assert child_insert.execution.id is not None  # noqa: S101 - given above
            self._documents[child_insert.execution.execution_id] = Stored(child_insert.execution.id)
            if not child_insert.done.done():
                child_insert.done.set_result(None)

    async def _insert_guarded(self, session: AsyncClientSession, documents: list[JsonObject]) -> None:
        root = await self._collection.update_one(
            {"executionId": self.root_id, "fence": self.fence}, {"$set": {"updatedAt": utc_now()}}, session=session
        )
        if not root.matched_count:
            raise TreeLost("Another process has taken this run over.")
        ids = [document["_id"] for document in documents]
        if await self._collection.count_documents({"_id": {"$in": ids}}, session=session) == 0:
            await self._collection.insert_many(documents, session=session)

    async def _attempts(self) -> AsyncGenerator[int]:
        """Yield attempts at a write while the database may recover; after that the tree counts as lost."""
        deadline = asyncio.get_running_loop().time() + RETRY_FOR_SECONDS
        attempt = 0
        while asyncio.get_running_loop().time() < deadline:
            attempt += 1
            if attempt > 1:
                log.warning("log-write-retried", root=self.root_id, attempt=attempt)
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
            yield attempt
        raise TreeLost("The database did not answer for too long.")

    async def _lose(self, reason: str, *, notify: bool) -> None:
        """Mark the tree as lost: fail all waiting callers and notify the owner."""
        if self._lost is None:
            self._lost = TreeLost(reason)
        for child_insert in self._child_inserts:
            if not child_insert.done.done():
                child_insert.done.set_exception(self._lost)
        async with self._stored:
            self._stored.notify_all()
        if notify:
            log.warning("tree-lost", root=self.root_id, reason=reason)
            self.on_lost()

    @cached_property
    def _collection(self) -> Collection:
        return collection_of(self.database, AgentExecution)


@contextlib.contextmanager
def passing_faults() -> Generator[None]:
    """Suppress errors that a retry may fix: a lost connection, a failover, a slow majority."""
    try:
        yield
    except PyMongoError as error:
        unconfirmed = isinstance(error, BulkWriteError) and not error.details.get("writeErrors")
        if not (unconfirmed or isinstance(error, TRANSIENT) or error.has_error_label("TransientTransactionError")):
            raise


def is_terminal(status: object) -> bool:
    """Return whether a status ends the execution."""
    return isinstance(status, str) and ExecutionStatus(status).is_terminal
