# pyright: reportPrivateUsage=false
"""The outbox: what follows the end of an execution happens once for each consumer, whichever process dies or fails."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType

import pytest
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ExecutionTimeout

from app import failpoints
from app.database.connection import Database, Raw
from app.database.transactions import in_transaction
from app.events import outbox as outbox_module
from app.events import outbox_marks
from app.events.outbox import ExecutionEnd, Outbox, OutboxTimings, field_of, mark_of
from app.events.outbox_marks import remove_applied, remove_orphans
from app.failpoints import FailpointReached
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus
from app.models.outbox_claim import OutboxClaim
from tests.fixtures.services import Service

LEDGER = "ledger-of-the-tests"
QUICK = OutboxTimings(batch_seconds=0.01, look_every_seconds=0.02, longest_pause_seconds=0.05)


async def nothing(_: Sequence[Raw]) -> None:
    """Let a batch pass."""


@dataclass
class Ledger:
    """A consumer that adds up the amounts of its marks."""

    database: Database
    name: str
    before_commit: Callable[[Sequence[Raw]], Awaitable[None]] = nothing
    projection: Mapping[str, int] = field(default_factory=lambda: {"executionId": 1})

    @property
    def field(self) -> str:
        """The place of its marks."""
        return field_of(self.name)

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Each tool call costs one."""
        return mark_of(self.name, {"amount": end.tool_calls.total()})

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Add the amounts of all marks."""
        marks = [mark for raw in batch for mark in raw["outbox"][self.name].values()]
        total = {"$inc": {"total": sum(mark["amount"] for mark in marks), "marks": len(marks)}}
        await self.database[LEDGER].update_one({"_id": self.name}, total, upsert=True, session=session)
        await self.before_commit(batch)


@pytest.fixture
async def database(shared_service: Service) -> AsyncGenerator[Database]:
    """The database, without what the tests leave."""
    database = shared_service.services.database
    yield database
    await database[LEDGER].drop()
    await database[AgentExecution.get_collection_name()].delete_many({"prompt": LEDGER})


def end_with(calls: int) -> ExecutionEnd:
    """The end of an execution that called its tool so often."""
    execution = AgentExecution.new_root(
        agent=ObjectId(),  # pyright: ignore[reportArgumentType] - PydanticObjectId is one
        department=ObjectId(),  # pyright: ignore[reportArgumentType] - PydanticObjectId is one
        kind=ExecutionKind.AGENT,
        prompt=LEDGER,
        completed_at=datetime.now(UTC),
    )
    return ExecutionEnd(execution, ExecutionStatus.COMPLETED, Counter({"echo": calls}), is_first=True)


async def store_end(database: Database, outbox: Outbox, end: ExecutionEnd) -> str:
    """Store an execution, and its end as a run's last write does; returns its id."""
    executions = database[AgentExecution.get_collection_name()]
    await executions.insert_one(end.execution.as_stored())
    await executions.update_one({"executionId": end.execution.execution_id}, {"$set": outbox.marks(end)})
    return end.execution.execution_id


async def total(database: Database, name: str) -> tuple[int, int]:
    """A ledger's sum, and the number of marks in it."""
    found = await database[LEDGER].find_one({"_id": name}) or {}
    return found.get("total", 0), found.get("marks", 0)


async def pending(database: Database, name: str) -> int:
    """How many executions have a mark."""
    executions = database[AgentExecution.get_collection_name()]
    return await executions.count_documents({field_of(name): {"$exists": True}})


async def test_each_consumer_gets_each_end_once(database: Database) -> None:
    consumers = [Ledger(database, "costs"), Ledger(database, "bills")]
    outboxes = [Outbox(database, consumers) for _ in range(3)]
    for calls in range(1, 21):
        await store_end(database, outboxes[0], end_with(calls))

    await asyncio.gather(*(outbox.settle() for outbox in outboxes))

    assert [await total(database, name) for name in ("costs", "bills")] == [(210, 20), (210, 20)]
    assert [await pending(database, name) for name in ("costs", "bills")] == [0, 0]


async def test_a_second_end_preserves_the_mark_of_the_first(database: Database) -> None:
    outbox = Outbox(database, [Ledger(database, "costs")])
    end = end_with(3)
    execution_id = await store_end(database, outbox, end)
    executions = database[AgentExecution.get_collection_name()]
    await executions.update_one({"executionId": execution_id}, {"$set": outbox.marks(end)})

    await outbox.settle()

    assert await total(database, "costs") == (6, 2)


async def test_a_mark_that_is_added_while_others_are_applied_is_not_lost(database: Database) -> None:
    added = False

    async def add_one(_: Sequence[Raw]) -> None:
        nonlocal added
        if not added:
            added = True
            executions = database[AgentExecution.get_collection_name()]
            adding.append(
                asyncio.create_task(
                    executions.update_one({"executionId": execution_id}, {"$set": other.marks(end_with(10))})
                )
            )

    adding: list[asyncio.Task[object]] = []
    other = Outbox(database, [Ledger(database, "costs")])
    execution_id = await store_end(database, other, end_with(1))

    await Outbox(database, [Ledger(database, "costs", add_one)]).settle()
    await asyncio.gather(*adding)
    await other.settle()

    assert await total(database, "costs") == (11, 2)


async def test_a_consumer_that_fails_does_not_hold_up_the_others_and_catches_up(database: Database) -> None:
    async def fail(_: Sequence[Raw]) -> None:
        if is_broken:
            raise RuntimeError("broken")

    is_broken = True
    outbox = Outbox(database, [Ledger(database, "costs", fail), Ledger(database, "bills")], QUICK)
    for _ in range(3):
        await store_end(database, outbox, end_with(1))

    outbox.start()
    await until_total(database, "bills", 3)
    assert (await total(database, "costs"), await pending(database, "costs")) == ((0, 0), 3)
    is_broken = False
    await until_total(database, "costs", 3)
    await outbox.stop()


async def test_an_execution_that_a_consumer_fails_on_does_not_delay_the_others(database: Database) -> None:
    async def refuse(batch: Sequence[Raw]) -> None:
        if any(raw["executionId"] == damaged for raw in batch):
            raise KeyError("damaged")

    outbox = Outbox(database, [Ledger(database, "costs", refuse)])
    ids = [await store_end(database, outbox, end_with(1)) for _ in range(5)]
    damaged = ids[2]

    await outbox.settle()

    assert await total(database, "costs") == (4, 4)
    assert await pending(database, "costs") == 1


async def test_an_execution_that_a_transaction_locks_delays_no_other_for_long_and_counts_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_marks, "TRANSACTION_SECONDS", 0.5)
    outbox = Outbox(database, [Ledger(database, "costs")])
    locked = {"executionId": await store_end(database, outbox, end_with(1))}
    executions = database[AgentExecution.get_collection_name()]

    async with database.client.start_session() as session, await session.start_transaction():
        await executions.update_one(locked, {"$set": {"prompt": LEDGER + "s"}}, session=session)
        for _ in range(2):
            await store_end(database, outbox, end_with(1))
            async with asyncio.timeout(5):
                await outbox.settle()
        assert await total(database, "costs") == (3, 3)
        await session.abort_transaction()
    await outbox.settle()

    assert await total(database, "costs") == (3, 3)
    assert await pending(database, "costs") == 0


async def test_another_process_applies_marks_that_a_dead_one_left(database: Database) -> None:
    applied = asyncio.Event()

    async def hang(_: Sequence[Raw]) -> None:
        applied.set()
        await asyncio.Event().wait()

    outbox = Outbox(database, [Ledger(database, "costs")], QUICK)
    await store_end(database, outbox, end_with(7))
    dying = asyncio.create_task(Outbox(database, [Ledger(database, "costs", hang)]).settle())
    await applied.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await total(database, "costs"), await pending(database, "costs")) == ((0, 0), 1)

    outbox.start()
    await until_total(database, "costs", 7)
    await outbox.stop()

    assert await total(database, "costs") == (7, 1)


@pytest.mark.parametrize(
    ("place", "module", "applied"),
    [
        ("before-outbox-commit", outbox_module, 0),
        ("after-outbox-commit", outbox_marks, 3),
        ("after-outbox-removal", outbox_marks, 3),
    ],
)
async def test_a_process_that_dies_anywhere_leaves_nothing_undone_and_nothing_done_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, place: str, module: ModuleType, applied: int
) -> None:
    consumers = [Ledger(database, "costs"), Ledger(database, "bills")]
    execution_id = await store_end(database, Outbox(database, consumers), end_with(3))
    with monkeypatch.context() as patch:
        patch.setattr(module, "failpoint", failpoints.armed(f"{place}:raise"))
        with pytest.raises(FailpointReached):
            await apply_marks(database, execution_id, consumers)
    assert [(await total(database, one.name))[0] for one in consumers] == [applied, applied]
    executions = database[AgentExecution.get_collection_name()]
    await executions.update_one({"executionId": execution_id}, {"$set": consumers[0].mark(end_with(10))})

    await Outbox(database, consumers).settle()

    assert [await total(database, one.name) for one in consumers] == [(13, 2), (3, 1)]
    assert "outbox" not in (await executions.find_one({"executionId": execution_id}) or {})
    await age_claims(database)
    await remove_orphans(database)
    assert await database[OutboxClaim.get_collection_name()].count_documents({}) == 0


async def test_a_claim_is_kept_as_long_as_its_mark(database: Database) -> None:
    consumers = [Ledger(database, "costs")]
    execution_id = await store_end(database, Outbox(database, consumers), end_with(3))
    ids = [await stored_id(database, execution_id)]
    await in_transaction(database, lambda session: Outbox(database, consumers)._apply(session, ids, consumers))
    await age_claims(database)

    await remove_orphans(database)
    await Outbox(database, consumers).settle()

    assert await total(database, "costs") == (3, 1)


async def test_marks_of_a_newer_version_are_kept(database: Database) -> None:
    known, newer = Ledger(database, "costs"), Ledger(database, "of-a-newer-version")
    await store_end(database, Outbox(database, [known, newer]), end_with(2))

    await Outbox(database, [known]).settle()

    assert await total(database, "costs") == (2, 1)
    assert (await pending(database, "costs"), await pending(database, newer.name)) == (0, 1)


async def apply_marks(database: Database, execution_id: str, consumers: Sequence[Ledger]) -> None:
    """Apply the marks of an execution, as an outbox does with a batch."""
    outbox, ids = Outbox(database, consumers), [await stored_id(database, execution_id)]
    read = await in_transaction(database, lambda session: outbox._apply(session, ids, consumers))
    await remove_applied(database, *read)


async def stored_id(database: Database, execution_id: str) -> ObjectId:
    """The `_id` of an execution."""
    found = await database[AgentExecution.get_collection_name()].find_one({"executionId": execution_id}, {"_id": 1})
    assert found is not None
    return found["_id"]


async def age_claims(database: Database) -> None:
    """Let the claims be two hours old."""
    claims = database[OutboxClaim.get_collection_name()]
    await claims.update_many({}, {"$set": {"at": utc_now() - timedelta(hours=2)}})


async def until_total(database: Database, name: str, amount: int) -> None:
    """Wait for a ledger's sum."""
    async with asyncio.timeout(15):
        while (await total(database, name))[0] != amount:  # noqa: ASYNC110 - another task's write sets no event here
            await asyncio.sleep(0.01)


async def test_a_batch_that_takes_too_long_is_applied_in_smaller_ones(database: Database) -> None:
    async def be_slow(batch: Sequence[Raw]) -> None:
        if len(batch) > 8:
            raise ExecutionTimeout("the transaction took too long")

    outbox = Outbox(database, [Ledger(database, "costs", be_slow)])
    for _ in range(20):
        await store_end(database, outbox, end_with(1))

    for _ in range(12):
        await outbox.settle()

    assert await total(database, "costs") == (20, 20)
    assert await pending(database, "costs") == 0
