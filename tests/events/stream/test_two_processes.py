"""Two processes on one database: whoever follows a run of the other sees it live, with Redis, without, and without it
in the middle.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest

from app.database.connection import Database
from app.events.log.log_rows import Stored
from app.events.log.tree_log import TreeLog
from app.events.replay import StreamHead
from app.events.stream import broadcaster
from app.events.stream.bus import Committed, Ending, InProcessBus
from app.events.stream.hub import EventHub
from app.events.stream.opening import open_bus
from app.events.stream.redis_bus import PREFIX, RedisBus, decode, encode
from app.events.stream.signatures import MessageSigner
from app.events.stream.tree_state import TreeState
from app.events.types import AgentDelta, Frame
from app.kit.redis import redis_client
from app.models.agent_execution import ExecutionStatus
from tests.fixtures.event_trees import ENDED, Tree, said
from tests.fixtures.valkey import ValkeyProcess
from tests.fixtures.waiting import wait_until


@dataclass
class Process:
    """The event rooms of one process."""

    bus: InProcessBus
    hub: EventHub

    def log(self, tree: Tree) -> TreeLog:
        """A log that this process writes."""
        assert tree.root.id is not None
        log = TreeLog(tree.database, self.bus, tree.id, 1, 0, lambda: None)
        log.open({tree.id: Stored(tree.root.id)})
        tree.logs.append(log)
        return log


@asynccontextmanager
async def two_processes(database: Database, redis_url: str | None) -> AsyncGenerator[tuple[Process, Process]]:
    """Two of them."""
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(open_bus(redis_url, database)) for _ in range(2)]
        first, second = [Process(bus, EventHub(database, bus)) for bus in buses]
        yield first, second


async def is_healthy(process: Process) -> bool:
    """Whether the process hears from Redis."""
    return isinstance(process.bus, RedisBus) and process.bus.is_healthy


async def has_listener(redis_url: str, root_id: str) -> bool:
    """Whether Redis passes a tree's messages on to anyone."""
    async with redis_client(redis_url) as redis:
        ((_, listeners),) = await redis.pubsub_numsub(f"{PREFIX}{root_id}")
    return listeners > 0


class Watcher:
    """Follows a tree in a process and notes what it is given."""

    def __init__(self, process: Process, tree: Tree, *, deltas: bool = False) -> None:
        self.numbers: list[int] = []
        self.deltas: list[str] = []
        self.ended: Ending | None = None
        self.task = asyncio.create_task(self._watch(process, tree, deltas))

    async def _watch(self, process: Process, tree: Tree, deltas: bool) -> None:
        async for item in process.hub.follow(await process.hub.head(tree.id), 0, deltas=deltas):
            match item:
                case Frame():
                    self.numbers.append(item.seq)
                case AgentDelta():
                    self.deltas.append(item.text)
                case Ending():
                    self.ended = item

    async def has_seen(self, last: int) -> None:
        """Wait until an event is seen."""
        await wait_until(lambda: bool(self.numbers) and self.numbers[-1] == last, 10)


Disturbance = Callable[[ValkeyProcess], Awaitable[None]]


async def flush(server: ValkeyProcess) -> None:
    """Redis loses everything."""
    await server.flush()


async def restart(server: ValkeyProcess) -> None:
    """Redis dies and comes back empty."""
    await server.stop()
    await server.start()


async def stay_away(server: ValkeyProcess) -> None:
    """Redis dies."""
    await server.stop()


async def freeze(server: ValkeyProcess) -> None:
    """Redis takes connections and never answers."""
    server.freeze()


@pytest.mark.slow
@pytest.mark.parametrize("disturb", [flush, restart, stay_away, freeze])
async def test_a_run_of_another_process_is_seen_whatever_becomes_of_redis(
    tree: Tree, valkey: ValkeyProcess, disturb: Disturbance
) -> None:
    async with two_processes(tree.database, valkey.url) as (runs, watches):
        log, watcher = runs.log(tree), Watcher(watches, tree)
        await wait_until(lambda: is_healthy(watches), 10)
        log.append(tree.id, said("before"))
        await watcher.has_seen(1)

        await disturb(valkey)
        log.append(tree.id, said("meanwhile"))
        await watcher.has_seen(2)
        log.append(tree.id, said("after"), said("the end"), changes=ENDED)
        async with asyncio.timeout(10):
            await watcher.task
        if disturb is freeze:
            valkey.thaw()

    assert watcher.numbers == [1, 2, 3, 4]
    assert watcher.ended == Ending(tree.id, ExecutionStatus.COMPLETED, 4)


@pytest.mark.slow
async def test_redis_that_comes_back_is_used_again(tree: Tree, valkey: ValkeyProcess) -> None:
    async with two_processes(tree.database, valkey.url) as (_, watches):
        await wait_until(lambda: is_healthy(watches), 10)
        await valkey.stop()
        await wait_until(lambda: watches.bus.poll_seconds < 1, 10)
        await valkey.start()

        await wait_until(lambda: is_healthy(watches), 10)


@pytest.mark.slow
async def test_without_redis_a_run_of_another_process_is_seen_by_its_head(tree: Tree) -> None:
    async with two_processes(tree.database, None) as (runs, watches):
        log, watcher = runs.log(tree), Watcher(watches, tree)
        for number in range(1, 4):
            log.append(tree.id, said(number))
            await watcher.has_seen(number)
        log.append(tree.id, said("the end"), changes=ENDED)
        async with asyncio.timeout(10):
            await watcher.task

    assert watcher.numbers == [1, 2, 3, 4]


async def test_an_end_between_two_reads_is_reported(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(tree.database, None) as (runs, watches):
        log, watcher = runs.log(tree), Watcher(watches, tree)
        log.append(tree.id, said(1))
        await watcher.has_seen(1)
        read_early = broadcaster.read_state

        async def read_and_then_end(database: Database, head: StreamHead) -> TreeState:
            state = await read_early(database, head)
            monkeypatch.setattr(broadcaster, "read_state", read_early)
            log.append(tree.id, said("the end"), changes=ENDED)
            await log.committed()
            return state

        monkeypatch.setattr(broadcaster, "read_state", read_and_then_end)
        log.append(tree.id, said(2))
        async with asyncio.timeout(10):
            await watcher.task

    assert watcher.numbers == [1, 2, 3]


async def test_live_text_crosses_processes_to_subscribers_that_requested_it(tree: Tree, redis_url: str) -> None:
    async with two_processes(tree.database, redis_url) as (runs, watches):
        log = runs.log(tree)
        await wait_until(lambda: is_healthy(watches), 10)
        await wait_until(lambda: is_healthy(runs), 10)
        unwanted = runs.bus.wants_deltas(tree.id)
        asks, other = Watcher(watches, tree, deltas=True), Watcher(watches, tree)
        await wait_until(lambda: runs.bus.wants_deltas(tree.id), 10)
        await wait_until(lambda: has_listener(redis_url, tree.id), 10)

        log.show_delta(tree.id, "ada-001", "Once")
        await wait_until(lambda: asks.deltas == ["Once"], 10)
        log.append(tree.id, said("Once upon"), changes=ENDED)
        async with asyncio.timeout(10):
            await asyncio.gather(asks.task, other.task)

    assert (unwanted, other.deltas, asks.numbers, other.numbers) == (False, [], [1], [1])


@pytest.mark.slow
async def test_publishing_neither_waits_nor_fails_when_redis_is_not_there(tree: Tree) -> None:
    bus = RedisBus("redis://127.0.0.1:1/0", MessageSigner(b"key"))
    await bus.start()

    for number in range(20_000):
        bus.publish(Committed(tree.id, (Frame({"seq": number, "type": "x", "executionId": tree.id}),)))

    assert not bus.is_healthy
    await bus.stop()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_message_between_processes_holds_the_frames_byte_for_byte(count: int) -> None:
    frames = tuple(
        Frame({"type": "x", "seq": seq, "executionId": "e", "text": "line\nbreak\r\u2028é"}) for seq in range(count)
    )
    sent = Committed("e", frames, (Ending("e", ExecutionStatus.FAILED, count),))

    head, _, rest = encode(sent, "me").partition(b"\n")
    received = decode("e", orjson.loads(head), rest)

    assert isinstance(received, Committed)
    assert [(one.seq, one.type, one.execution_id, one.data) for one in received.frames] == [
        (one.seq, one.type, one.execution_id, one.data) for one in frames
    ]
    assert received.endings == sent.endings
