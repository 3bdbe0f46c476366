"""The outbox: work that follows the end of an execution, done exactly once for each consumer.

The write that ends an execution also leaves a mark in its document for each consumer. A task then takes batches of
marked executions: one transaction claims the marks and applies the consumers' updates, so neither happens without the
other, whichever process dies. Afterward the marks are removed, and then the claims (see `outbox_marks`). Every process
looks for marks after a wake-up and every few seconds, and so finds those that others left.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from bson import ObjectId
from pymongo import ASCENDING
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure, PyMongoError

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.transactions import in_transaction
from app.events.outbox_marks import (
    MARKS_FIELD,
    Mark,
    claim_new,
    marks_in,
    remove_applied,
    remove_orphans,
    root_of,
    with_marks,
)
from app.failpoints import failpoint
from app.kit.concurrency import end_tasks
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ExecutionEnd:
    """An end of an execution; `is_first` is false for the end of a revision."""

    execution: AgentExecution
    status: ExecutionStatus
    tool_calls: Counter[str]
    is_first: bool
    calls: tuple[JsonObject, ...] = ()
    """The ledger rows of all model calls of the execution, in order, including those before earlier ends."""
    counted_calls: int = 0
    """The number of those rows that an earlier end has already reported; the rows after them are new."""
    tags: tuple[str, ...] = ()
    """The tags of the run."""
    seq: int = 0
    """The number of the event that ends it."""


class OutboxConsumer(Protocol):
    """Work that follows the ends of executions.

    A consumer whose `field` is under `MARKS_FIELD` gets one mark for each end. Its updates are part of a transaction,
    which may run several times until it is committed: effects outside the database belong elsewhere.
    """

    @property
    def name(self) -> str:
        """The consumer's name in logs and indexes."""
        ...

    @property
    def field(self) -> str:
        """The stored field that holds the consumer's marks."""
        ...

    @property
    def projection(self) -> Mapping[str, int]:
        """The fields of executions that the consumer reads besides its marks."""
        ...

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Return the stored fields that mark an end for this consumer: none if it does not concern it."""
        ...

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Apply the updates for marked executions, each with its marks under `field`, inside the transaction."""
        ...


def mark_of(name: str, content: JsonObject) -> JsonObject:
    """Return a mark for the consumer `name`, with an id of its own, so that earlier pending marks are kept."""
    return {f"{field_of(name)}.{ObjectId()}": content}


def field_of(name: str) -> str:
    """Return the field that holds the marks of the consumer `name`."""
    return f"{MARKS_FIELD}.{name}"


@dataclass(frozen=True)
class OutboxTimings:
    """Intervals of the outbox, in seconds."""

    batch_seconds: float = 1.0
    """How long marks collect after a wake-up: many short runs then share few updates."""
    look_every_seconds: float = 2.0
    longest_pause_seconds: float = 60.0
    """The longest pause of a consumer that fails again and again; it doubles up to this."""


BATCH_EXECUTIONS = 500
MAX_HELD_BACK = 10_000
MAX_DOUBLINGS = 16
ORPHANS_EVERY_SECONDS = 3600.0
DEFAULT_TIMINGS = OutboxTimings()


@dataclass
class HeldBack:
    """The executions whose updates failed for one consumer; they are left out until `retry_at`."""

    ids: list[Any] = field(default_factory=list[Any])
    retry_at: float = 0.0
    failures: int = 0

    def release_if_due(self) -> None:
        """Release the executions for another attempt if their pause is over."""
        if asyncio.get_running_loop().time() >= self.retry_at:
            self.ids.clear()

    def note(self, failed: bool, timings: OutboxTimings) -> None:
        """Set the next pause after a round: it doubles while the consumer fails."""
        if failed:
            pause = min(timings.look_every_seconds * 2**self.failures, timings.longest_pause_seconds)
            self.retry_at = asyncio.get_running_loop().time() + pause
            self.failures = min(self.failures + 1, MAX_DOUBLINGS)
        elif not self.ids:
            self.failures = 0


class Outbox:
    """Feeds the consumers in one process; several processes share the work.

    A batch is one transaction for all consumers. If it fails, each consumer gets the batch alone, and then each of its
    executions, so that neither a failing consumer nor a damaged execution delays the others.
    """

    def __init__(
        self, database: Database, consumers: Sequence[OutboxConsumer], timings: OutboxTimings = DEFAULT_TIMINGS
    ) -> None:
        self.consumers = tuple(consumers)
        self._database = database
        self._timings = timings
        self._held_back = {consumer.name: HeldBack() for consumer in self.consumers}
        self._batch_executions = BATCH_EXECUTIONS
        """The executions of the next batch: fewer after a batch that took too long for its transaction."""
        self._wake = asyncio.Event()
        self._draining = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def marks(self, end: ExecutionEnd) -> JsonObject:
        """Return the stored fields that mark an end for all consumers; the write that ends the execution sets them."""
        marks: JsonObject = {}
        for consumer in self.consumers:
            marks |= consumer.mark(end)
        return marks

    def start(self) -> None:
        """Start applying marks, including those of processes that died."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    def notify(self) -> None:
        """Look for new marks soon; returns at once."""
        self._wake.set()

    async def settle_tree(self, root_execution_id: str) -> None:
        """Apply the marks of a run tree that is about to be deleted, with all others that are pending."""
        has_mark = [{consumer.field: {"$exists": True}} for consumer in self.consumers]
        selector = {"rootExecutionId": root_execution_id, "$or": has_mark}
        if self.consumers and await self._executions.find_one(selector, {"_id": 1}):
            await self.settle()

    async def settle(self) -> None:
        """Apply every pending mark now; those that fail stay pending, and are tried again after a pause that doubles.

        Marks that another process is applying may still be there for a moment when this returns.
        """
        async with self._draining:
            for held in self._held_back.values():
                held.release_if_due()
            failed: set[str] = set()
            try:
                before: list[Any] = []
                while (batch := await self._find_pending()) and batch != before:
                    failed |= await self._apply_all(batch, self.consumers)
                    if len(batch) < self._batch_executions:
                        break
                    before = batch
                    self._batch_executions = min(self._batch_executions * 2, BATCH_EXECUTIONS)
            except PyMongoError as error:
                self._batch_executions = max(self._batch_executions // 2, 1)
                log.warning("outbox-read-failed", error=type(error).__name__)
            for name, held in self._held_back.items():
                held.note(name in failed, self._timings)

    async def stop(self) -> None:
        """Stop the loop, and apply what is pending."""
        if self._task:
            await end_tasks(self._task)
        await self.settle()

    async def _run(self) -> None:
        """Apply marks until cancelled."""
        await self._build_indexes()
        orphans_looked_for = -ORPHANS_EVERY_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timings.look_every_seconds):
                    await self._wake.wait()
                    await asyncio.sleep(self._timings.batch_seconds)
            self._wake.clear()
            try:
                await self.settle()
                if asyncio.get_running_loop().time() - orphans_looked_for >= ORPHANS_EVERY_SECONDS:
                    orphans_looked_for = asyncio.get_running_loop().time()
                    await remove_orphans(self._database)
            except PyMongoError as error:
                log.warning("outbox-read-failed", error=type(error).__name__)
            except Exception:
                log.exception("outbox-crashed")

    async def _find_pending(self) -> list[Any]:
        """Return the ids of some executions that have a mark for a consumer which is not held back from them."""
        waiting: list[Raw] = []
        for consumer in self.consumers:
            held = self._held_back[consumer.name].ids
            if len(held) < MAX_HELD_BACK:
                waiting.append({consumer.field: {"$exists": True}} | ({"_id": {"$nin": held}} if held else {}))
        if not waiting:
            return []
        found = self._executions.find({"$or": waiting}, {"_id": 1}).limit(self._batch_executions)
        return [raw["_id"] async for raw in found]

    async def _apply_all(self, ids: list[Any], consumers: Sequence[OutboxConsumer]) -> set[str]:
        """Apply a batch; if it fails, once for each consumer, and then for each execution.

        Returns the names of the consumers that failed; the executions that they failed with are held back from them.

        Raises:
            PyMongoError: the database is unavailable.
        """
        try:
            batch, marks = await in_transaction(self._database, lambda session: self._apply(session, ids, consumers))
        except PyMongoError as error:
            passes = error.timeout or error.has_error_label("TransientTransactionError")
            if passes or not isinstance(error, OperationFailure):
                raise
            failure: Exception = error
        except Exception as error:  # noqa: BLE001 - logged below, or by the call for each execution
            failure = error
        else:
            await remove_applied(self._database, batch, marks)
            return set()
        if len(consumers) > 1:
            return set().union(*[await self._apply_all(ids, [consumer]) for consumer in consumers])
        if len(ids) > 1:
            return set().union(*[await self._apply_all([one], consumers) for one in ids])
        [consumer] = consumers
        log.error("outbox-update-failed", consumer=consumer.name, execution=str(ids[0]), exc_info=failure)
        self._held_back[consumer.name].ids += ids
        return {consumer.name}

    async def _apply(
        self, session: AsyncClientSession, ids: list[Any], consumers: Sequence[OutboxConsumer]
    ) -> tuple[list[Raw], list[Mark]]:
        """Apply the updates of the consumers for the marks that are still there and have no claim yet.

        Returns the executions that were read, and all their marks, which can be removed after the commit.
        """
        fields = {name: 1 for consumer in consumers for name in (*consumer.projection, root_of(consumer.field))}
        batch = await self._executions.find({"_id": {"$in": ids}}, fields, session=session).to_list()
        found = {consumer.name: self._marks_of(batch, consumer) for consumer in consumers}
        marks = [mark for one in found.values() for mark in one]
        new = await claim_new(self._database, marks, session) if marks else set[Mark]()
        for consumer in consumers:
            by_execution: dict[Any, list[Mark]] = {}
            for mark in found[consumer.name]:
                if mark in new:
                    by_execution.setdefault(mark.execution, []).append(mark)
            if by_execution:
                marked = [raw for raw in batch if raw["_id"] in by_execution]
                await consumer.apply(
                    [with_marks(raw, consumer.field, by_execution[raw["_id"]]) for raw in marked], session
                )
        failpoint("before-outbox-commit")
        return batch, marks

    def _marks_of(self, batch: Sequence[Raw], consumer: OutboxConsumer) -> list[Mark]:
        """Return the marks for a consumer in the executions of a batch, except for those held back from it."""
        held = self._held_back[consumer.name].ids
        return [mark for raw in batch if raw["_id"] not in held for mark in marks_in(raw, consumer.field)]

    async def _build_indexes(self) -> None:
        """Index the executions that have a mark; without the indexes the loop works, slowly."""
        for consumer in self.consumers:
            name, marked = f"{consumer.field}_1", {consumer.field: {"$exists": True}}
            try:
                await self._executions.create_index(
                    [(consumer.field, ASCENDING)], name=name, partialFilterExpression=marked
                )
            except PyMongoError as error:
                log.warning("index-build-failed", index=name, error=type(error).__name__)

    @property
    def _executions(self) -> Collection:
        return collection_of(self._database, AgentExecution)


@asynccontextmanager
async def open_outbox(database: Database, consumers: Sequence[OutboxConsumer]) -> AsyncGenerator[Outbox]:
    """Run an outbox whose consumers work until the context ends."""
    outbox = Outbox(database, consumers)
    outbox.start()
    try:
        yield outbox
    finally:
        await outbox.stop()
