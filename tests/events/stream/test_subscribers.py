"""Any interleaving of joining, leaving, coming back, slow reading and changes of process: each event once, in order."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import pytest
from beanie import init_beanie
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from app.database.connection import DOCUMENTS, Database, connect
from app.events import replay
from app.events.log import log_rows as rows
from app.events.log.full_events import read_stored
from app.events.log.log_rows import Stored
from app.events.log.tree_log import TreeLog
from app.events.replay import read_events, read_head
from app.events.stream import broadcaster, shared_reads, sinks
from app.events.stream import bus as bus_module
from app.events.stream.bus import Ending, InProcessBus
from app.events.stream.head_poller import HeadPoller
from app.events.stream.hub import EventHub
from app.events.types import AgentDelta, Frame
from app.kit.concurrency import end_tasks
from app.models.agent_execution import AgentExecution
from tests.fixtures.event_trees import ENDED, new_execution, said

Result = TypeVar("Result")


@pytest.fixture(autouse=True)
def tight_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that every one of them is met all the time."""
    monkeypatch.setattr(rows, "MAX_DOCUMENT_ROWS", 6)
    monkeypatch.setattr(rows, "MAX_PAGE_ROWS", 4)
    monkeypatch.setattr(shared_reads, "PAGE_ROWS", 5)
    monkeypatch.setattr(replay, "PAGE_ROWS", 5)
    monkeypatch.setattr(replay.read_frames, "__defaults__", (5,))
    monkeypatch.setattr(broadcaster, "RECENT_BYTES", 1000)
    monkeypatch.setattr(broadcaster, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(sinks, "MAX_QUEUED_BYTES", 800)
    monkeypatch.setattr(bus_module, "MAX_BUFFERED_COMMITS", 2)
    monkeypatch.setattr(bus_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(bus_module, "LOCAL_SECONDS", 0.0)


@dataclass
class Process:
    """The event rooms of one process."""

    bus: InProcessBus
    hub: EventHub
    poller: asyncio.Task[None]


@dataclass
class Subscriber:
    """Reads a stream at a pace of its own; `seen` stays when it leaves and comes back."""

    execution_id: str
    seen: list[int] = field(default_factory=list[int])
    ending: Ending | None = None
    pace: float = 0.0
    task: asyncio.Task[None] | None = None

    async def read(self, hub: EventHub) -> None:
        """Continue after the last number seen."""
        head = await hub.head(self.execution_id)
        stream: AsyncGenerator[Frame | AgentDelta | Ending] = hub.follow(head, self.seen[-1] if self.seen else 0)
        async with contextlib.aclosing(stream):
            async for item in stream:
                if isinstance(item, Frame):
                    self.seen.append(item.seq)
                    await asyncio.sleep(self.pace)
                elif isinstance(item, Ending):
                    self.ending = item


@dataclass
class World:
    """The loop and the database of the test."""

    loop: asyncio.AbstractEventLoop
    database: Database


class Subscribers(RuleBasedStateMachine):
    """Two processes, a tree of two executions, and whoever follows them."""

    worlds: ClassVar[list[World]] = []
    everybody = Bundle("everybody")

    def __init__(self) -> None:
        super().__init__()
        self.subscribers: list[Subscriber] = []
        self.world = self.worlds[-1]
        self.run(self.set_up())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something in the loop of the test."""
        return self.world.loop.run_until_complete(work)

    async def set_up(self) -> None:
        """Store a tree, and begin its log in the first process."""
        buses = [InProcessBus(), InProcessBus()]
        self.processes = [self.process(bus) for bus in buses]
        self.fence = 1
        self.root = new_execution()
        executions = self.world.database[AgentExecution.get_collection_name()]
        stored = await executions.insert_one(self.root.as_stored())
        self.log = TreeLog(self.world.database, buses[0], self.root.execution_id, 1, 0, lambda: None)
        self.log.open({self.root.execution_id: Stored(stored.inserted_id)})
        self.child = new_execution(self.root.execution_id, parent=self.root.execution_id)
        await self.log.add_child(self.child)

    def process(self, bus: InProcessBus) -> Process:
        """A process with a bus."""
        database = self.world.database
        return Process(bus, EventHub(database, bus), asyncio.create_task(HeadPoller(database, bus).run()))

    @rule(to_child=st.lists(st.booleans(), min_size=1, max_size=12), wait=st.booleans())
    def append(self, to_child: list[bool], wait: bool) -> None:
        """The run continues."""
        for child in to_child:
            self.log.append(self.child.execution_id if child else self.root.execution_id, said(len(to_child)))
        self.run(self.log.committed() if wait else asyncio.sleep(0))

    @rule(target=everybody, process=st.sampled_from([0, 1]), child=st.booleans(), slow=st.booleans())
    def subscribe(self, process: int, child: bool, slow: bool) -> Subscriber:
        """A subscriber joins."""
        chosen = self.child if child else self.root
        subscriber = Subscriber(chosen.execution_id, pace=0.002 if slow else 0.0)
        self.subscribers.append(subscriber)
        self.go_on(subscriber, process)
        return subscriber

    def go_on(self, subscriber: Subscriber, process: int) -> None:
        """Let a subscriber read in a process."""

        async def start() -> None:
            subscriber.task = asyncio.create_task(subscriber.read(self.processes[process].hub))

        self.run(start())

    @rule(target=everybody, subscriber=consumes(everybody), process=st.sampled_from([0, 1]), wait=st.booleans())
    def leave_and_come_back(self, subscriber: Subscriber, process: int, wait: bool) -> Subscriber:
        """A connection breaks, and the client resumes somewhere."""
        self.run(self.leave(subscriber))
        if wait:
            self.run(self.log.committed())
        self.go_on(subscriber, process)
        return subscriber

    async def leave(self, subscriber: Subscriber) -> None:
        """Break a connection."""
        if subscriber.task:
            await end_tasks(subscriber.task)

    @rule(subscriber=consumes(everybody))
    def leave_for_good(self, subscriber: Subscriber) -> None:
        """A subscriber leaves."""
        self.run(self.leave(subscriber))
        self.check(subscriber, self.stored(), whole=False)
        self.subscribers.remove(subscriber)

    @rule()
    def time_passes(self) -> None:
        """Everything continues for a moment."""
        self.run(asyncio.sleep(0.01))

    @rule(process=st.sampled_from([0, 1]))
    def take_over(self, process: int) -> None:
        """Another process continues the run; events that the first had not stored are lost."""
        self.run(self.change_process(process))

    async def change_process(self, process: int) -> None:
        """Raise the fence and open a log elsewhere."""
        self.fence += 1
        executions = self.world.database[AgentExecution.get_collection_name()]
        root_id = self.root.execution_id
        await executions.update_many({"rootExecutionId": root_id}, {"$set": {"fence": self.fence}})
        head = await read_head(self.world.database, root_id)
        await self.log.close()
        bus = self.processes[process].bus
        self.log = TreeLog(self.world.database, bus, root_id, self.fence, head.last_seq, lambda: None)
        self.log.open(await read_stored(self.world.database, root_id))

    def stored(self) -> list[dict[str, Any]]:
        """All that the database holds."""

        async def read() -> list[dict[str, Any]]:
            head = await read_head(self.world.database, self.root.execution_id)
            return await read_events(self.world.database, head, 0, 10_000)

        return self.run(read())

    def check(self, subscriber: Subscriber, stored: list[dict[str, Any]], *, whole: bool) -> None:
        """A subscriber has seen a beginning of its stream, or all of it."""
        is_tree = subscriber.execution_id == self.root.execution_id
        own = [one["seq"] for one in stored if is_tree or one["executionId"] == subscriber.execution_id]
        assert subscriber.seen == (own if whole else own[: len(subscriber.seen)])

    def teardown(self) -> None:
        """The run ends; everybody who is still there has seen all of it, in order, once."""
        self.run(self.finish())
        stored = self.stored()
        assert [one["seq"] for one in stored] == list(range(1, len(stored) + 1))
        for subscriber in self.subscribers:
            self.check(subscriber, stored, whole=True)
            assert subscriber.ending is not None
            assert subscriber.ending.last_seq == subscriber.seen[-1]

    async def finish(self) -> None:
        """End both executions, and wait until every subscriber knows."""
        for one in (self.child, self.root):
            self.log.append(one.execution_id, said("the end"), changes=ENDED)
        await self.log.committed()
        async with asyncio.timeout(20):
            await asyncio.gather(*(one.task for one in self.subscribers if one.task))
        await self.log.close()
        await end_tasks(*(process.poller for process in self.processes))


@pytest.mark.slow
def test_every_subscriber_gets_every_event_once_and_in_order(mongod_uri: str) -> None:
    loop = asyncio.new_event_loop()
    database = loop.run_until_complete(connect(mongod_uri.replace("/?", "/test_subscribers?")))
    loop.run_until_complete(init_beanie(database=database, document_models=list(DOCUMENTS), skip_indexes=True))
    Subscribers.worlds.append(World(loop, database))
    try:
        run_state_machine_as_test(
            Subscribers, settings=settings(max_examples=12, stateful_step_count=25, deadline=None)
        )
    finally:
        loop.run_until_complete(database.client.close())
        loop.close()
