"""The connection to MongoDB cut in the middle of a run: nothing is seen that is not stored, and everything arrives."""

import asyncio
import random
from collections.abc import Callable

import pytest
from pymongo.uri_parser import parse_uri

from app.database.connection import Database, connect
from app.events.log import tree_log as log_module
from app.events.log.log_rows import Stored
from app.events.log.tree_log import TreeLog
from app.events.replay import read_frames, read_head
from app.events.stream.bus import Ending
from app.events.stream.head_poller import HeadPoller
from app.events.stream.hub import EventHub
from app.kit.concurrency import end_tasks
from tests.events.stream.test_hub import collect, texts_of
from tests.fixtures.event_trees import ENDED, RecordingBus, Tree, said
from tests.fixtures.proxy import Proxy, running_proxy

EVENTS = 120


async def connect_through(proxy: Proxy, mongod_uri: str, name: str) -> Database:
    """A database of the tests' mongod, reached through the proxy."""
    port = parse_uri(mongod_uri)["nodelist"][0][1]
    return await connect(mongod_uri.replace(f":{port}/?", f":{proxy.port}/{name}?"))


async def append_slowly(log: TreeLog, tree: Tree, chance: random.Random) -> None:
    """Append events over about a second, the ending last."""
    for number in range(EVENTS - 1):
        log.append(tree.id, said(number))
        await asyncio.sleep(chance.random() * 0.02)
    log.append(tree.id, said("the end"), changes=ENDED)
    await log.committed()


async def cut_now_and_then(proxy: Proxy, chance: random.Random, are_followed: Callable[[], bool]) -> None:
    """Cut the connections a few times, each for a moment, once the subscribers have found their run."""
    while not are_followed():  # noqa: ASYNC110 - the hubs follow
        await asyncio.sleep(0.01)
    for _ in range(4):
        await asyncio.sleep(0.1 + chance.random() * 0.2)
        await proxy.cut()
        await asyncio.sleep(chance.random() * 0.2)
        await proxy.mend()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
async def test_subscribers_see_all_stored_events_and_nothing_else_across_cuts(
    tree: Tree, mongod_uri: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(log_module, "RETRY_PAUSE_SECONDS", 0.05)
    chance = random.Random(seed)  # noqa: S311 - a schedule that can be repeated
    port = parse_uri(mongod_uri)["nodelist"][0][1]
    assert port is not None
    assert tree.root.id is not None
    async with running_proxy(port) as proxy:
        database = await connect_through(proxy, mongod_uri, tree.database.name)
        elsewhere = RecordingBus()
        poller = asyncio.create_task(HeadPoller(database, elsewhere).run())
        log = TreeLog(database, tree.bus, tree.id, 1, 0, lambda: None)
        log.open({tree.id: Stored(tree.root.id)})
        tree.logs.append(log)

        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(collect(EventHub(database, bus), tree.id)) for bus in (tree.bus, elsewhere)]
            group.create_task(append_slowly(log, tree, chance))
            buses = (tree.bus, elsewhere)
            group.create_task(
                cut_now_and_then(proxy, chance, lambda: all(bus.may_be_followed(tree.id) for bus in buses))
            )
        await end_tasks(poller)
        await database.client.close()

    stored = await read_frames(tree.database, await read_head(tree.database, tree.id), 0)
    assert [frame.seq for frame in stored] == list(range(1, EVENTS + 1))
    for task in watching:
        assert texts_of(task.result()) == [frame.text for frame in stored]
        assert isinstance(task.result()[-1], Ending)
