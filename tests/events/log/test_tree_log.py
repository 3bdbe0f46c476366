"""The durable log against a real MongoDB: numbers, order, groups, bounds."""

import asyncio

import pytest

from app.events.log import tree_log as log_module
from app.events.log.log_rows import GroupWrite
from app.events.log.tree_log import TreeLost
from app.events.replay import read_events, read_head
from app.models.agent_execution import ExecutionStatus
from tests.fixtures.event_trees import ENDED, Faults, Tree, Write, said, until


async def test_events_are_numbered_and_stored_in_rows_as_a_cms_keeps_them(tree: Tree) -> None:
    log = tree.open_log(last_seq=4)

    stamped = log.append(tree.id, said("a"), said("b"))
    await log.committed()

    document = await tree.document()
    assert [event["seq"] for event in stamped] == [5, 6]
    assert [row["event"] for row in document["events"]] == stamped
    assert all(list(row) == ["event", "id"] and len(row["id"]) == 24 for row in document["events"])
    assert document["lastSeq"] == 6


async def test_events_of_a_few_milliseconds_go_into_one_write(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()

    for number in range(50):
        log.append(tree.id, said(number))
    await until(lambda: len(tree.bus.frames) == 50)

    assert len(faults.writes) == len(tree.bus.published) == 1
    assert await tree.numbers() == list(range(1, 51))


async def test_more_rows_than_one_write_carries_are_stored_in_order(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()

    for number in range(1200):
        log.append(tree.id, said(number))
    await log.committed()

    assert [len(committed.frames) for committed in tree.bus.published] == [500, 500, 200]
    assert [frame.seq for frame in tree.bus.frames] == list(range(1, 1201)) == await tree.numbers()


async def test_the_rows_of_one_append_are_stored_together_however_many(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()

    log.append(tree.id, *map(said, range(600)))
    log.append(tree.id, said("next"))
    await log.committed()

    assert [len(committed.frames) for committed in tree.bus.published] == [600, 1]


async def test_nothing_is_published_before_it_is_stored(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    seen: list[tuple[int, int]] = []

    async def look(write: Write, requests: GroupWrite) -> int:
        before = len(tree.bus.frames)
        result = await write(requests)
        seen.append((before, len(tree.bus.frames)))
        return result

    faults.coming = [look]

    log.append(tree.id, said("a"))
    await log.committed()

    assert seen == [(0, 0)]
    assert len(tree.bus.frames) == 1


async def test_changes_of_fields_are_stored_with_the_last_event_of_their_append(tree: Tree) -> None:
    log = tree.open_log()

    log.append(tree.id, said("a"), said("b"), changes={"reviewNotes": "Good.", "retryCount": 1})
    await log.committed()

    document = await tree.document()
    assert (document["reviewNotes"], document["retryCount"], document["lastSeq"]) == ("Good.", 1, 2)


async def test_events_of_several_documents_keep_their_common_order(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)

    for number in range(10):
        log.append(tree.id if number % 2 else child.execution_id, said(number))
    await log.committed()

    head = await read_head(tree.database, tree.id)
    events = await read_events(tree.database, head, 0)
    assert [event["content"] for event in events] == [str(number) for number in range(10)]
    assert await tree.numbers(child.execution_id) == [1, 3, 5, 7, 9]
    assert await tree.numbers() == [2, 4, 6, 8, 10]


async def test_a_child_is_stored_after_all_that_was_appended_before(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    child = tree.new_child()
    order: list[str] = []

    async def note(write: Write, requests: GroupWrite) -> int:
        order.append("a child" if await tree.executions.find_one({"executionId": child.execution_id}) else "no child")
        return await write(requests)

    faults.coming = [note]

    log.append(tree.id, said("the plan"))
    await log.add_child(child)
    log.append(child.execution_id, said("hello"))
    await log.committed()

    stored = await tree.document(child.execution_id)
    assert order == ["no child"]
    assert (stored["fence"], stored["lastSeq"], stored["rootExecutionId"]) == (1, 2, tree.id)


async def test_children_born_at_once_are_all_stored(tree: Tree) -> None:
    log = tree.open_log()
    children = [tree.new_child() for _ in range(5)]

    await asyncio.gather(*(log.add_child(child) for child in children))

    assert await tree.executions.count_documents({"parentExecutionId": tree.id, "fence": 1}) == 5


async def test_an_ending_is_published_with_its_last_event(tree: Tree) -> None:
    log = tree.open_log()

    log.append(tree.id, said("a"))
    log.append(tree.id, said("b"), said("c"), changes=ENDED)
    await log.committed()

    endings = [ending for committed in tree.bus.published for ending in committed.endings]
    assert [(one.execution_id, one.status, one.last_seq) for one in endings] == [
        (tree.id, ExecutionStatus.COMPLETED, 3)
    ]


async def test_a_properly_closed_log_stores_everything_appended(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, said("a"))

    await log.close()

    assert await tree.numbers() == [1]
    with pytest.raises(TreeLost):
        log.append(tree.id, said("b"))
    assert tree.losses == 0


async def test_a_slow_database_holds_the_run_up(tree: Tree, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_QUEUED_ITEMS", 10)
    log = tree.open_log()
    stalled = asyncio.Event()

    async def stall(write: Write, requests: GroupWrite) -> int:
        await stalled.wait()
        return await write(requests)

    faults.coming = [stall]
    log.append(tree.id, said("first"))
    await until(lambda: len(faults.writes) == 1)
    for number in range(11):
        log.append(tree.id, said(number))

    waiting = asyncio.create_task(log.room())
    await asyncio.sleep(0)
    held_up = not waiting.done()
    stalled.set()
    await waiting

    assert held_up
    assert await tree.numbers() == list(range(1, 13))


async def test_live_text_is_shown_to_subscribers_that_requested_it_and_never_stored(tree: Tree) -> None:
    log = tree.open_log()
    with tree.bus.follow(tree.id) as wanted, tree.bus.follow(tree.id) as unwanted:
        tree.bus.ask_for_deltas(wanted)
        log.show_delta(tree.id, "ada-001", "Once")
        log.append(tree.id, said("Once upon"))
        await log.committed()

        assert len(await wanted.take()) == 2
        assert len(await unwanted.take()) == 1
    assert await tree.numbers() == [1]
