"""The durable log with faults between it and MongoDB, and with others who own the tree now."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect, OperationFailure

from app.events.log import tree_log as log_module
from app.events.log.log_rows import GroupWrite
from app.events.log.tree_log import TreeLog, TreeLost
from tests.fixtures.event_trees import ENDED, Fault, Faults, Tree, Write, said, until


async def reply_lost(write: Write, requests: GroupWrite) -> int:
    """MongoDB stores all and its answer does not arrive."""
    await write(requests)
    raise AutoReconnect("the reply was lost")


async def request_lost(_: Write, __: GroupWrite) -> int:
    """MongoDB never hears of it."""
    raise AutoReconnect("the request was lost")


async def cut_after_one(write: Write, requests: GroupWrite) -> int:
    """MongoDB dies after the first update of the group."""
    await write(replace(requests, documents=requests.documents[:1]))
    raise AutoReconnect("the connection was cut")


async def refused(_: Write, __: GroupWrite) -> int:
    """MongoDB refuses the write for good."""
    raise OperationFailure("no", 10334)


@pytest.mark.slow
async def test_a_crash_in_the_middle_of_a_write_leaves_a_prefix(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    faults.coming = [cut_after_one, refused]

    for execution_id in (child.execution_id, tree.id, child.execution_id):
        log.append(execution_id, said("x"))
    with pytest.raises(TreeLost):
        await log.committed()

    assert (await tree.numbers(child.execution_id), await tree.numbers()) == ([1], [])
    assert tree.bus.frames == []


async def test_a_write_that_was_cut_in_the_middle_is_finished_without_doubling_its_beginning(
    tree: Tree, faults: Faults
) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    faults.coming = [cut_after_one]

    for execution_id in (child.execution_id, tree.id, child.execution_id):
        log.append(execution_id, said("x"))
    await log.committed()

    assert (await tree.numbers(child.execution_id), await tree.numbers()) == ([1, 3], [2])
    assert [frame.seq for frame in tree.bus.frames] == [1, 2, 3]


@pytest.mark.parametrize(
    "coming",
    [
        [reply_lost],
        [request_lost],
        [request_lost, reply_lost],
        [reply_lost, request_lost, reply_lost],
    ],
    ids=["reply", "request", "request-then-reply", "three-in-a-row"],
)
async def test_a_lost_connection_neither_doubles_nor_loses_events(
    tree: Tree, faults: Faults, coming: list[Fault]
) -> None:
    log = tree.open_log()
    faults.coming = coming

    log.append(tree.id, said("a"), said("b"))
    await log.committed()
    log.append(tree.id, said("c"))
    await log.committed()

    assert await tree.numbers() == [1, 2, 3]
    assert [frame.seq for frame in tree.bus.frames] == [1, 2, 3]
    assert tree.losses == 0


async def test_an_owner_with_a_stale_fence_stores_and_shows_nothing(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, said("mine"))
    await log.committed()
    await tree.take_over()

    log.append(tree.id, said("late"), changes=ENDED)
    with pytest.raises(TreeLost):
        await log.committed()

    document = await tree.document()
    assert (await tree.numbers(), document["status"], document["lastSeq"]) == ([1], "pending", 1)
    assert [frame.seq for frame in tree.bus.frames] == [1]
    assert tree.losses == 1


async def test_a_stale_fence_holds_for_children_too(tree: Tree) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    await tree.take_over()

    log.append(child.execution_id, said("late"))
    with pytest.raises(TreeLost):
        await log.committed()

    assert await tree.numbers(child.execution_id) == []


async def test_two_owners_never_store_the_same_number(tree: Tree) -> None:
    first, second = tree.open_log(), tree.open_log()

    first.append(tree.id, said("first's"))
    second.append(tree.id, said("second's"))
    await asyncio.gather(first.committed(), second.committed(), return_exceptions=True)

    assert await tree.numbers() == [1]


async def test_a_lost_reply_before_a_take_over_is_left_to_the_new_owner(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()

    async def reply_lost_then_taken(write: Write, requests: GroupWrite) -> int:
        await write(requests)
        await tree.take_over()
        raise AutoReconnect("the reply was lost")

    faults.coming = [reply_lost_then_taken]

    log.append(tree.id, said("a"))
    with pytest.raises(TreeLost):
        await log.committed()

    assert (await tree.numbers(), tree.bus.frames) == ([1], [])


@pytest.mark.slow
async def test_a_lost_tree_accepts_no_more_events_or_children(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    faults.coming = [refused]
    log.append(tree.id, said("a"))
    await until(lambda: tree.losses == 1)

    with pytest.raises(TreeLost):
        log.append(tree.id, said("b"))
    with pytest.raises(TreeLost):
        await log.add_child(tree.new_child())
    with pytest.raises(TreeLost):
        await log.committed()

    assert tree.losses == 1


async def test_a_database_that_stays_away_loses_the_tree(
    tree: Tree, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RETRY_FOR_SECONDS", 0.1)
    log = tree.open_log()
    faults.coming = [request_lost] * 1000

    log.append(tree.id, said("a"))
    with pytest.raises(TreeLost, match="did not answer"):
        await log.committed()

    assert (await tree.numbers(), tree.bus.frames, tree.losses) == ([], [], 1)


async def test_callers_that_wait_for_a_writer_that_crashes_get_an_error(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tree.open_log()

    async def crash(*_: object) -> None:
        raise InvalidDocument("a bug")

    monkeypatch.setattr(TreeLog, "_store_rows", crash)

    log.append(tree.id, said("a"))
    born = asyncio.create_task(log.add_child(tree.new_child()))
    async with asyncio.timeout(5):
        with pytest.raises(TreeLost):
            await log.committed()
        with pytest.raises(TreeLost):
            await born

    assert tree.losses == 1


async def test_a_zombie_adds_no_child(tree: Tree) -> None:
    log = tree.open_log()
    await tree.take_over()

    with pytest.raises(TreeLost):
        await log.add_child(tree.new_child())

    assert await tree.executions.count_documents({"rootExecutionId": tree.id}) == 1
    assert tree.losses == 1


async def test_a_child_whose_confirmation_was_lost_is_stored_once(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    log = tree.open_log()
    whole = AsyncClientSession.with_transaction
    tried = 0

    async def with_transaction(session: AsyncClientSession, *rest: Any, **options: Any) -> Any:  # noqa: ANN401 - PyMongo's
        nonlocal tried
        tried += 1
        result = await whole(session, *rest, **options)
        if tried == 1:
            raise AutoReconnect("the reply was lost")
        return result

    monkeypatch.setattr(AsyncClientSession, "with_transaction", with_transaction)

    await log.add_child(tree.new_child())

    assert tried == 2
    assert await tree.executions.count_documents({"parentExecutionId": tree.id}) == 1


@pytest.mark.slow
async def test_a_child_that_waits_behind_a_failed_write_gets_an_error(tree: Tree, faults: Faults) -> None:
    log = tree.open_log()
    faults.coming = [refused]

    log.append(tree.id, said("a"))
    async with asyncio.timeout(5):
        with pytest.raises(TreeLost):
            await log.add_child(tree.new_child())

    assert await tree.executions.count_documents({"rootExecutionId": tree.id}) == 1
