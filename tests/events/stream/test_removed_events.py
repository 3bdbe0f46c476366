"""Stored events that are removed during a run: readers get an error or everything, never a gap or silence."""

import asyncio

import pytest
from bson import ObjectId

from app.events.replay import ExecutionNotFound
from app.events.stream import broadcaster
from app.events.stream.broadcaster import EventsMissing
from app.events.stream.hub import EventHub
from tests.events.stream.test_hub import collect, numbers_of
from tests.events.stream.test_two_processes import Watcher, two_processes
from tests.fixtures.event_trees import ENDED, Tree, said

pytestmark = pytest.mark.usefixtures("impatience")


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look twice only."""
    monkeypatch.setattr(broadcaster, "MISSING_LOOKS", 2)
    monkeypatch.setattr(broadcaster, "PAUSE_SECONDS", 0.05)


async def remove_events(tree: Tree) -> None:
    """Save a document as another program does that read it long ago."""
    await tree.executions.update_one({"executionId": tree.id}, {"$set": {"events": []}})


async def test_live_followers_continue_and_late_ones_get_an_error(tree: Tree) -> None:
    hub, log = EventHub(tree.database, tree.bus), tree.open_log()
    log.append(tree.id, said(1), said(2))
    await log.committed()
    stream = hub.follow(await hub.head(tree.id), 0)
    seen = [await anext(stream), await anext(stream)]
    await remove_events(tree)

    with pytest.raises(EventsMissing, match="event 2, but the event after 0"):
        await collect(hub, tree.id)
    log.append(tree.id, said(3), changes=ENDED)
    async with asyncio.timeout(10):
        seen += [item async for item in stream]

    assert numbers_of(seen) == [1, 2, 3]


@pytest.mark.slow
async def test_followers_in_another_process_get_an_error_and_so_do_those_that_ask_again(tree: Tree) -> None:
    async with two_processes(tree.database, None) as (runs, watches):
        log, watcher = runs.log(tree), Watcher(watches, tree)
        log.append(tree.id, said(1))
        await watcher.has_seen(1)
        log.append(tree.id, said(2))
        await log.committed()
        await remove_events(tree)
        log.append(tree.id, said(3))

        for again in (watcher, Watcher(watches, tree)):
            with pytest.raises(EventsMissing):
                await asyncio.wait_for(again.task, 10)
        resumed = asyncio.create_task(collect(watches.hub, tree.id, after=2))
        log.append(tree.id, said(4), changes=ENDED)

        assert numbers_of(await resumed) == [3, 4]
    assert watcher.numbers in ([1], [1, 2])


@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "another program's"])
async def test_followers_of_a_removed_run_get_an_error(tree: Tree, *, foreign: bool) -> None:
    if foreign:
        tree.root.execution_id = f"exec_{ObjectId()}"
        await tree.executions.insert_one({"executionId": tree.id, "status": "running", "events": [{"event": {}}]})
    async with two_processes(tree.database, None) as (runs, watches):
        watcher = Watcher(watches, tree)
        if not foreign:
            runs.log(tree).append(tree.id, said(1))
        await watcher.has_seen(1)
        await tree.executions.delete_one({"executionId": tree.id})

        with pytest.raises(ExecutionNotFound):
            await asyncio.wait_for(watcher.task, 10)
