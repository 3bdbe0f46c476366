"""The outbox: work that follows the end of an execution, done exactly once for each consumer.

The write that ends an execution also leaves a mark in its document for each consumer. A consumer's task then takes
batches of marked executions: one transaction removes the marks and applies the consumer's updates, so neither happens
without the other, whichever process dies. Every process looks for marks after a wake-up and every few seconds, and so
finds those that others left.
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
from app.failpoints import failpoint
from app.kit.concurrency import end_tasks
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus

MARKS_FIELD = "outbox"
"""The field of an execution with the marks by consumer, and under each consumer by the mark's id."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ExecutionEnd:
    """An end of an execution; `is_first` is false for the end of a revision."""

    execution: AgentExecution
    status: ExecutionStatus
    tool_calls: Counter[str]
    is_first: bool
    calls: tuple[JsonObject, ...] = ()
    """The ledger rows of all model calls of the execution, in order, also of those before earlier ends."""
    counted_calls: int = 0
    """The number of those rows that an earlier end has already reported; the rows after them are new."""
    tags: tuple[str, ...] = ()
    """The tags of the run."""
    seq: int = 0
    """The number of the event that ends it."""


class OutboxConsumer(Protocol):
    """Something that follows from the ends of executions.

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
        """The fields of executions that the consumer reads beside its marks."""
        ...

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Returns the stored fields that mark an end for this consumer: none if it does not concern it."""
        ...

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Apply the updates for marked executions, each with its marks under `field`, inside the transaction."""
        ...


def mark_of(name: str, content: JsonObject) -> JsonObject:
    """Return a mark for the consumer `name`, with an id of its own, so that earlier pending marks are kept."""
    return {f"{field_of(name)}.{ObjectId()}": content}


def field_of(name: str) -> str:
    """Returns the field that holds the marks of the consumer `name`."""
    return f"{MARKS_FIELD}.{name}"


@dataclass(frozen=True)
class OutboxTimings:
    """Intervals of the outbox, in seconds."""

    batch_seconds: float = 0.5
    """How long marks collect after a wake-up: many short runs then share few updates."""
    look_every_seconds: float = 2.0
    longest_pause_seconds: float = 60.0
    """The longest pause of a consumer that fails again and again; it doubles up to this."""


BATCH_EXECUTIONS = 500
MAX_HELD_BACK = 10_000
MAX_DOUBLINGS = 16
DEFAULT_TIMINGS = OutboxTimings()


@dataclass
class ConsumerLoop:
    """Feeds one consumer in one process; the loops of several processes share the work."""

    database: Database
    consumer: OutboxConsumer
    timings: OutboxTimings
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _held_back: list[Any] = field(default_factory=list[Any], init=False)
    """The executions whose updates failed; they are left out until `_retry_at`."""
    _retry_at: float = field(default=0.0, init=False)
    _failures: int = field(default=0, init=False)
    _batch_executions: int = field(default=BATCH_EXECUTIONS, init=False)
    """The executions of the next batch: fewer after a batch that took too long for its transaction."""

    def notify(self) -> None:
        """Look for marks soon."""
        self._wake.set()

    async def run(self) -> None:
        """Apply marks until cancelled."""
        await self._build_index()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timings.look_every_seconds):
                    await self._wake.wait()
                    await asyncio.sleep(self.timings.batch_seconds)
            self._wake.clear()
            try:
                await self.drain()
            except Exception:
                log.exception("outbox-crashed", consumer=self.consumer.name)

    async def drain(self) -> None:
        """Apply every pending mark; those that fail are tried again after a pause that doubles."""
        now = asyncio.get_running_loop().time
        if now() >= self._retry_at:
            self._held_back.clear()
        failed = False
        try:
            while len(self._held_back) < MAX_HELD_BACK and (batch := await self._find_pending()):
                failures = await self._apply_all(batch)
                self._held_back += failures
                failed = failed or bool(failures)
                if len(batch) < self._batch_executions:
                    break
                self._batch_executions = min(self._batch_executions * 2, BATCH_EXECUTIONS)
        except PyMongoError as error:
            self._batch_executions = max(self._batch_executions // 2, 1)
            log.warning("outbox-read-failed", consumer=self.consumer.name, error=type(error).__name__)
        if failed:
            pause = self.timings.look_every_seconds * 2**self._failures
            self._retry_at = now() + min(pause, self.timings.longest_pause_seconds)
            self._failures = min(self._failures + 1, MAX_DOUBLINGS)
        elif not self._held_back:
            self._failures = 0

    async def _find_pending(self) -> list[Any]:
        """Returns the ids of some marked executions."""
        selector: Raw = {self.consumer.field: {"$exists": True}}
        if self._held_back:
            selector["_id"] = {"$nin": self._held_back}
        found = self._executions.find(selector, {"_id": 1}).limit(self._batch_executions)
        return [raw["_id"] async for raw in found]

    async def _apply_all(self, ids: list[Any]) -> list[Any]:
        """Apply a batch, or each of its executions alone if the batch fails; returns the ids of those that failed.

        Raises:
            PyMongoError: the database is unavailable.
        """
        try:
            await in_transaction(self.database, lambda session: self._apply(session, ids))
        except PyMongoError as error:
            passes = error.timeout or error.has_error_label("TransientTransactionError")
            if passes or not isinstance(error, OperationFailure):
                raise
            failure: Exception = error
        except Exception as error:  # noqa: BLE001 - logged below, or by the call for each execution
            failure = error
        else:
            return []
        if len(ids) > 1:
            return [failed for one in ids for failed in await self._apply_all([one])]
        log.error("outbox-update-failed", consumer=self.consumer.name, execution=str(ids[0]), exc_info=failure)
        return ids

    async def _apply(self, session: AsyncClientSession, ids: list[Any]) -> None:
        """Remove the marks that are still there and apply the consumer's updates for them.

        Marks are read inside the transaction: one that is added meanwhile makes it conflict and run again.
        """
        marked = {"_id": {"$in": ids}, self.consumer.field: {"$exists": True}}
        fields = {**self.consumer.projection, self.consumer.field: 1}
        batch = await self._executions.find(marked, fields, session=session).to_list()
        if not batch:
            return
        await self._executions.update_many(
            {"_id": {"$in": [raw["_id"] for raw in batch]}}, {"$unset": {self.consumer.field: ""}}, session=session
        )
        await self.consumer.apply(batch, session)
        failpoint("before-outbox-commit")

    async def _build_index(self) -> None:
        """Index the executions that have a mark; without the index the loop works, slowly."""
        name, marked = f"{self.consumer.field}_1", {self.consumer.field: {"$exists": True}}
        try:
            await self._executions.create_index(
                [(self.consumer.field, ASCENDING)], name=name, partialFilterExpression=marked
            )
        except PyMongoError as error:
            log.warning("index-build-failed", index=name, error=type(error).__name__)

    @property
    def _executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)


class Outbox:
    """The consumers of this process, each with its own loop, so that a failing consumer does not delay the others."""

    def __init__(
        self, database: Database, consumers: Sequence[OutboxConsumer], timings: OutboxTimings = DEFAULT_TIMINGS
    ) -> None:
        self.consumers = tuple(consumers)
        self._database = database
        self._loops = [ConsumerLoop(database, consumer, timings) for consumer in self.consumers]
        self._tasks: list[asyncio.Task[None]] = []

    def marks(self, end: ExecutionEnd) -> JsonObject:
        """Returns the stored fields that mark an end for all consumers; the write that ends the execution sets them."""
        marks: JsonObject = {}
        for consumer in self.consumers:
            marks |= consumer.mark(end)
        return marks

    def start(self) -> None:
        """Start to apply marks, those of processes that died too."""
        self._tasks = [asyncio.create_task(loop.run(), name=f"outbox {loop.consumer.name}") for loop in self._loops]

    def notify(self) -> None:
        """Look for new marks soon; returns at once."""
        for loop in self._loops:
            loop.notify()

    async def settle_tree(self, root_execution_id: str) -> None:
        """Apply the marks of a run tree that is about to be deleted, with all others that are pending."""
        executions = collection_of(self._database, AgentExecution)
        has_mark = [{consumer.field: {"$exists": True}} for consumer in self.consumers]
        selector = {"rootExecutionId": root_execution_id, "$or": has_mark}
        if self.consumers and await executions.find_one(selector, {"_id": 1}):
            await self.settle()

    async def settle(self) -> None:
        """Apply every pending mark now; those that fail stay pending."""
        await asyncio.gather(*(loop.drain() for loop in self._loops))

    async def stop(self) -> None:
        """Stop the loops, and apply what is pending."""
        await end_tasks(*self._tasks)
        await self.settle()


@asynccontextmanager
async def open_outbox(database: Database, consumers: Sequence[OutboxConsumer]) -> AsyncGenerator[Outbox]:
    """An outbox whose consumers work until the context ends."""
    outbox = Outbox(database, consumers)
    outbox.start()
    try:
        yield outbox
    finally:
        await outbox.stop()
