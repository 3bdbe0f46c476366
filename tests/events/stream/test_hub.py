"""Following runs: each subscriber gets each event once, in order, whatever happens meanwhile."""

import asyncio
import random

import pytest

from app.database.connection import Database
from app.events.log.tree_log import TreeLog
from app.events.replay import ExecutionNotFound, StreamHead, frames_of, read_events, read_frames, read_head
from app.events.stream import broadcaster, shared_reads
from app.events.stream import bus as bus_module
from app.events.stream.broadcaster import EventsMissing
from app.events.stream.bus import Committed, Ending, Moved
from app.events.stream.head_poller import HeadPoller
from app.events.stream.hub import EventHub
from app.events.types import AgentDelta, Frame
from app.kit.concurrency import end_tasks
from app.models.agent_execution import ExecutionStatus
from tests.fixtures.event_trees import ENDED, RecordingBus, Tree, said, until
from tests.fixtures.exposition import counted

EVENTS = 90


Seen = list[Frame | AgentDelta | Ending]


async def collect(hub: EventHub, execution_id: str, after: int = 0, *, pause_seconds: float = 0) -> Seen:
    """All that a subscriber is given until the end; it takes a pause after each item."""
    found: Seen = []
    async with asyncio.timeout(20):
        async for item in hub.follow(await hub.head(execution_id), after):
            found.append(item)
            await asyncio.sleep(pause_seconds)
    return found


def texts_of(seen: Seen) -> list[str]:
    """The frames as they went over the wire."""
    return [item.text for item in seen if isinstance(item, Frame)]


def numbers_of(seen: Seen) -> list[int]:
    """The frames' numbers."""
    return [item.seq for item in seen if isinstance(item, Frame)]


async def collect_later(hub: EventHub, log: TreeLog, tree: Tree, chance: random.Random) -> tuple[int, Seen]:
    """Subscribe at some moment after some number; that number, and what was given."""
    await asyncio.sleep(chance.random() * 0.12)
    after = chance.randint(0, log.last_seq)
    return after, await collect(hub, tree.id, after, pause_seconds=chance.choice([0, 0, 0.001]))


async def append_all(log: TreeLog, ids: list[str], chance: random.Random) -> None:
    """Append events to random documents in bursts, and end them all, the root last."""
    left = EVENTS - len(ids)
    while left > 0:
        burst = min(chance.randint(1, 9), left)
        for _ in range(burst):
            log.append(chance.choice(ids), said(chance.random()))
        left -= burst
        await asyncio.sleep(chance.random() * 0.008)
    for execution_id in reversed(ids):
        log.append(execution_id, said("the end"), changes=ENDED)


@pytest.mark.parametrize("buffered", [2, 256])
@pytest.mark.parametrize("seed", range(5))
async def test_a_subscriber_that_joins_at_any_time_gets_exactly_the_events_that_follow(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, seed: int, buffered: int
) -> None:
    monkeypatch.setattr(bus_module, "MAX_BUFFERED_COMMITS", buffered)
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be repeated
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    children = [tree.new_child() for _ in range(2)]
    for child in children:
        await log.add_child(child)
    ids = [tree.id, *(child.execution_id for child in children)]

    async with asyncio.TaskGroup() as group:
        group.create_task(append_all(log, ids, chance))
        joined = [group.create_task(collect_later(hub, log, tree, chance)) for _ in range(12)]
        watched = [group.create_task(collect(hub, child)) for child in ids[1:]]

    replay = frames_of(await read_events(tree.database, await read_head(tree.database, tree.id), 0))
    for after, found in (task.result() for task in joined):
        assert texts_of(found) == [frame.text for frame in replay[after:]]
        assert found[-1] == Ending(tree.id, ExecutionStatus.COMPLETED, EVENTS)
    for child, found in zip(ids[1:], (task.result() for task in watched), strict=True):
        own = [frame for frame in replay if frame.execution_id == child]
        assert texts_of(found) == [frame.text for frame in own]
        assert found[-1] == Ending(child, ExecutionStatus.COMPLETED, own[-1].seq)


@pytest.mark.parametrize("remembered", [0, 512 * 1024])
async def test_nothing_is_lost_or_doubled_between_the_replay_and_going_live(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, *map(said, range(5)))
    await log.committed()
    reads = 0

    async def read_while_others_write(database: Database, head: StreamHead, after: int) -> list[Frame]:
        nonlocal reads
        reads += 1
        found = await read_frames(database, head, after)
        if reads == 1:
            for changes in ({}, {}, ENDED):
                log.append(tree.id, *map(said, range(300)), changes=changes)
                await log.committed()
        return found

    monkeypatch.setattr(shared_reads, "read_frames", read_while_others_write)
    monkeypatch.setattr(broadcaster, "RECENT_BYTES", remembered)

    seen = await collect(hub, tree.id)

    assert numbers_of(seen) == list(range(1, 906))
    assert seen[-1] == Ending(tree.id, ExecutionStatus.COMPLETED, 905)
    assert (reads > 1) == (remembered == 0)


async def test_a_follower_that_cannot_keep_up_reads_what_it_missed_from_the_database(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "MAX_BUFFERED_COMMITS", 3)
    hub, log, resyncs = EventHub(tree.database, tree.bus), tree.open_log(), counted("stream_resyncs_total")
    log.append(tree.id, said("first"))
    await log.committed()
    stream = hub.follow(await hub.head(tree.id), 0)
    first = await anext(stream)
    for _ in range(5):  # more than the buffer holds, before the follower has a turn
        tree.bus.publish(Committed(tree.id, ()))
    for number in range(40):
        log.append(tree.id, said(number))
        await log.committed()
    log.append(tree.id, said("the end"), changes=ENDED)
    await log.committed()

    rest = [item async for item in stream]

    assert isinstance(first, Frame)
    assert numbers_of([first, *rest]) == list(range(1, 43))
    assert isinstance(rest[-1], Ending)
    assert counted("stream_resyncs_total") > resyncs


async def test_a_commit_that_the_bus_lost_is_read_from_the_database_before_the_next(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, said("heard"))
    await log.committed()
    stream = hub.follow(await hub.head(tree.id), 0)
    first = await anext(stream)
    log.bus = RecordingBus()
    log.append(tree.id, said("unheard"))
    await log.committed()
    log.bus = tree.bus
    log.append(tree.id, said("heard again"), changes=ENDED)
    await log.committed()

    seen = [first, *[item async for item in stream]]

    assert numbers_of(seen) == [1, 2, 3]


async def test_a_slow_follower_costs_bounded_memory_and_delays_no_other(tree: Tree) -> None:
    log = tree.open_log()
    with tree.bus.follow(tree.id) as stalled:
        tree.bus.ask_for_deltas(stalled)
        for _ in range(2000):
            tree.bus.publish(Committed(tree.id, ()))
            log.show_delta(tree.id, "ada-001", "x" * 100)

        assert stalled.missed
        assert len(await stalled.take()) <= bus_module.MAX_BUFFERED_COMMITS


async def test_a_subscriber_after_the_end_gets_every_event_and_the_ending(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, *map(said, range(3)), changes=ENDED)
    await log.committed()

    *frames, ending = await collect(hub, tree.id)
    last = await collect(hub, tree.id, after=3)

    assert numbers_of(frames) == [1, 2, 3]
    assert ending == Ending(tree.id, ExecutionStatus.COMPLETED, 3)
    assert last == [ending]


async def test_more_events_than_a_page_are_replayed_whole(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, *map(said, range(1201)), changes=ENDED)
    await log.committed()

    *frames, _ = await collect(hub, tree.id)

    assert numbers_of(frames) == list(range(1, 1202))


async def test_a_child_s_stream_ends_with_the_child_and_not_with_the_tree(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    following = asyncio.create_task(collect(hub, child.execution_id))
    log.append(tree.id, said("root's"))
    log.append(child.execution_id, said("child's"))
    await log.committed()
    log.append(child.execution_id, said("child's last"), changes=ENDED)
    log.append(tree.id, said("root's again"))

    async with asyncio.timeout(10):
        found = await following

    assert numbers_of(found) == [2, 3]
    assert found[-1] == Ending(child.execution_id, ExecutionStatus.COMPLETED, 3)


async def test_a_child_s_ending_does_not_end_the_tree_s_stream(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    following = asyncio.create_task(collect(hub, tree.id))
    log.append(child.execution_id, said("child's last"), changes=ENDED)
    await log.committed()
    log.append(tree.id, said("root's last"), changes=ENDED)

    async with asyncio.timeout(10):
        found = await following

    assert numbers_of(found) == [1, 2]
    assert [one.execution_id for one in found if isinstance(one, Ending)] == [tree.id]


async def test_live_text_reaches_subscribers_that_requested_it_and_its_own_stream(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    log.append(child.execution_id, said("first"))
    await log.committed()
    root_stream = hub.follow(await hub.head(tree.id), 0, deltas=True)
    child_stream = hub.follow(await hub.head(child.execution_id), 0, deltas=True)
    await anext(root_stream)
    await anext(child_stream)

    log.show_delta(tree.id, "head-001", "root's")
    log.show_delta(child.execution_id, "ada-001", "child's")

    texts = [(await anext(stream)) for stream in (root_stream, root_stream, child_stream)]
    assert [one.text for one in texts] == ["root's", "child's", "child's"]  # type: ignore[union-attr]
    for stream in (root_stream, child_stream):
        await stream.aclose()  # type: ignore[attr-defined]
    assert not tree.bus.wants_deltas(tree.id)


async def test_removed_events_are_an_error_and_not_a_gap(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, *map(said, range(3)), changes=ENDED)
    await log.committed()
    await tree.executions.update_one({"executionId": tree.id}, {"$set": {"events": []}})

    with pytest.raises(EventsMissing):
        await collect(hub, tree.id)


async def test_an_unknown_execution_cannot_be_followed(database: Database, tree: Tree) -> None:
    with pytest.raises(ExecutionNotFound):
        await EventHub(database, tree.bus).head("exec_nobody")


@pytest.mark.parametrize("buffered", [1, 256])
async def test_a_wait_for_the_end_lasts_until_the_root_has_ended(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, buffered: int
) -> None:
    monkeypatch.setattr(bus_module, "MAX_BUFFERED_COMMITS", buffered)
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    child = tree.new_child()
    waiting = asyncio.create_task(hub.wait_for_end(tree.id))
    await until(lambda: tree.bus.may_be_followed(tree.id))

    await log.add_child(child)
    log.append(tree.id, said("hello"))
    for number in range(5):
        log.append(child.execution_id, said(number))
    log.append(child.execution_id, said("the end"), changes=ENDED)
    await log.committed()
    tree.bus.deliver(Moved(tree.id, log.last_seq), tree.id)
    await asyncio.sleep(0.1)
    assert not waiting.done()

    log.append(tree.id, said("the end"), changes=ENDED)
    await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(hub.wait_for_end(tree.id), 5)
    assert not tree.bus.may_be_followed(tree.id)


async def test_a_wait_for_the_end_notices_ends_of_other_processes(tree: Tree) -> None:
    elsewhere = RecordingBus()
    hub, log = EventHub(tree.database, elsewhere), tree.open_log()
    poller = asyncio.create_task(HeadPoller(tree.database, elsewhere).run())
    waiting = asyncio.create_task(hub.wait_for_end(tree.id))

    log.append(tree.id, said("the end"), changes=ENDED)

    await asyncio.wait_for(waiting, 5)
    await end_tasks(poller)


async def test_a_wait_for_the_end_of_an_unknown_root_fails(tree: Tree) -> None:
    with pytest.raises(ExecutionNotFound):
        await EventHub(tree.database, tree.bus).wait_for_end("exec_unknown")
