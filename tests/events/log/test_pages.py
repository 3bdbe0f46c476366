"""Events beyond what one document holds: pages, oversized payloads, and reading all of it back."""

import asyncio
import json
from hashlib import sha256

import bson
import orjson
import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import AutoReconnect

from app.database import transactions
from app.database.connection import Raw
from app.events.log import log_rows as rows_module
from app.events.log import tree_log as log_module
from app.events.log.full_events import EventNotFound, read_full_event, read_stored, tree_events
from app.events.log.log_rows import GroupWrite
from app.events.log.tree_log import TreeLog, TreeLost
from app.events.log.truncation import MAX_PAYLOAD_BYTES, PREVIEW_CHARACTERS
from app.events.replay import read_events, read_frames, read_head
from app.events.types import AgentComplete, AgentError, ToolResult
from app.kit.json_values import JsonObject
from app.models.execution_events import EventPayload, ExecutionEventPage
from tests.fixtures.event_trees import ENDED, Faults, Tree, Write, said


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of 10 rows, pages of 7."""
    monkeypatch.setattr(rows_module, "MAX_DOCUMENT_ROWS", 10)
    monkeypatch.setattr(rows_module, "MAX_PAGE_ROWS", 7)


async def pages_of(tree: Tree, execution_id: str | None = None) -> list[Raw]:
    """The pages of an execution, in order."""
    collection = tree.database[ExecutionEventPage.get_collection_name()]
    return await collection.find({"executionId": execution_id or tree.id}).sort("firstSeq").to_list()


async def replay(tree: Tree, execution_id: str | None = None, *, step: int = 500) -> list[JsonObject]:
    """All events of a stream, read a page at a time."""
    head = await read_head(tree.database, execution_id or tree.id)
    events: list[JsonObject] = []
    while page := await read_events(tree.database, head, events[-1]["seq"] if events else 0, step):
        events += page
    return events


async def whole_events(tree: Tree) -> list[JsonObject]:
    """All events of the tree as whoever takes it over reads them."""
    return [event async for _, event in tree_events(tree.database, tree.id)]


@pytest.mark.usefixtures("small")
async def test_rows_beyond_a_documents_room_go_to_pages(tree: Tree) -> None:
    log = tree.open_log()

    for number in range(30):
        log.append(tree.id, said(number))
    await log.committed()

    document, pages = await tree.document(), await pages_of(tree)
    assert (len(document["events"]), document["lastSeq"], document["pagesFrom"]) == (10, 30, 11)
    assert [(page["firstSeq"], page["lastSeq"], len(page["events"])) for page in pages] == [
        (11, 17, 7),
        (18, 24, 7),
        (25, 30, 6),
    ]
    assert all(list(row) == ["event", "id"] for page in pages for row in page["events"])
    assert [event["content"] for event in await replay(tree)] == [str(number) for number in range(30)]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["x" * 50_000, [1] * 5_000, [1] * 50], ids=["text", "numbers", "few numbers"])
async def test_a_document_holds_one_mebibyte_of_events_and_a_page_half_of_that(
    tree: Tree, output: str | list[int]
) -> None:
    log = tree.open_log()
    event = ToolResult(tool_call_id="a", tool_name="echo", output=output)
    count = 3_000_000 // len(bson.encode(event.body()))

    for _ in range(count):
        log.append(tree.id, event)
    await log.committed()

    document, pages = await tree.document(), await pages_of(tree)
    assert 0.9 * 2**20 < len(bson.encode(document)) < 1.1 * 2**20
    assert all(len(bson.encode(page)) < 0.55 * 2**20 for page in pages)
    assert [event["seq"] for event in await replay(tree)] == list(range(1, count + 1))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("step", [1, 4, 500])
async def test_streams_of_a_tree_on_many_pages_are_whole_whatever_the_page_of_the_reader(tree: Tree, step: int) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    for number in range(60):
        log.append(child.execution_id if number % 3 else tree.id, said(number))
    await log.committed()

    everything = await replay(tree, step=step)
    own = await replay(tree, child.execution_id, step=step)

    assert [event["seq"] for event in everything] == list(range(1, 61))
    assert own == [event for event in everything if event["executionId"] == child.execution_id]
    assert [frame.data for frame in tree.bus.frames] == [orjson.dumps(event) for event in everything]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_a_lost_connection_neither_doubles_nor_loses_rows_of_pages(tree: Tree, faults: Faults, lost: str) -> None:
    log = tree.open_log()
    log.append(tree.id, *map(said, range(12)))
    await log.committed()

    async def fail(write: Write, group: GroupWrite) -> int:
        if lost == "reply":
            await write(group)
        raise AutoReconnect("cut")

    faults.coming = [fail, fail]
    log.append(tree.id, *map(said, range(12)))
    await log.committed()

    assert [event["seq"] for event in await replay(tree)] == list(range(1, 25))
    assert sum(len(page["events"]) for page in await pages_of(tree)) == 14
    assert [frame.seq for frame in tree.bus.frames] == list(range(1, 25))


@pytest.mark.usefixtures("small")
async def test_a_crash_between_a_page_and_its_document_leaves_neither(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tree.open_log()
    monkeypatch.setattr(log_module, "RETRY_FOR_SECONDS", 0.0)
    whole = AsyncClientSession.commit_transaction

    async def die(_: AsyncClientSession) -> None:
        raise AutoReconnect("the process died before the commit")

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", die)
    monkeypatch.setattr(transactions, "TRANSACTION_SECONDS", 0.2)
    log.append(tree.id, *map(said, range(12)))
    with pytest.raises(TreeLost):
        await log.committed()
    monkeypatch.setattr(AsyncClientSession, "commit_transaction", whole)

    assert await tree.numbers() == []
    assert await pages_of(tree) == []


@pytest.mark.usefixtures("small")
async def test_a_zombie_s_rows_are_on_no_page(tree: Tree) -> None:
    zombie = tree.open_log()
    zombie.append(tree.id, *map(said, range(12)))
    await zombie.committed()
    await tree.take_over()

    zombie.append(tree.id, said("late"))
    with pytest.raises(TreeLost):
        await zombie.committed()
    owner = await taken_over(tree)
    owner.append(tree.id, said("on time"))
    await owner.committed()

    assert [event["content"] for event in await replay(tree)][10:] == ["10", "11", "on time"]
    assert len(tree.bus.frames) == 13


async def taken_over(tree: Tree) -> TreeLog:
    """The log of the process that took the tree over, which continues from the stored rows."""
    log = TreeLog(tree.database, tree.bus, tree.id, 2, (await tree.document())["lastSeq"], lambda: None)
    log.open(await read_stored(tree.database, tree.id))
    tree.logs.append(log)
    return log


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stored", [4, 10, 11, 30])
async def test_a_new_owner_continues_where_the_rows_end(tree: Tree, stored: int) -> None:
    log = tree.open_log()
    log.append(tree.id, *map(said, range(stored)))
    await log.committed()
    await tree.take_over()

    owner = await taken_over(tree)
    owner.append(tree.id, *map(said, range(stored, stored + 20)))
    await owner.committed()

    assert [event["content"] for event in await replay(tree)] == [str(number) for number in range(stored + 20)]
    assert len((await tree.document())["events"]) == 10
    assert await whole_events(tree) == await replay(tree)


TOO_LARGE = {
    "text": "é" * (MAX_PAYLOAD_BYTES // 2 + 1),
    "a list": [{"n": number} for number in range(20_000)],
    "an object": {"text": "x" * 100_000, "data": None},
}


@pytest.mark.parametrize("output", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_an_oversized_payload_is_cut_where_it_is_seen_and_kept_whole_beside_it(
    tree: Tree, output: object
) -> None:
    log = tree.open_log()
    result = ToolResult(agent_id="ada-001", tool_call_id="1", tool_name="t", output=output, duration_ms=5.0)

    (given,) = log.append(tree.id, result)
    await log.committed()

    (row,) = (await tree.document())["events"]
    (frame,) = tree.bus.frames
    cut = row["event"]
    head = await read_head(tree.database, tree.id)
    whole = await read_full_event(tree.database, head, 1)
    assert given["output"] == output
    assert orjson.loads(whole) == given
    assert (cut["truncated"], cut["size"], cut["sha256"]) == (True, len(whole), sha256(whole).hexdigest())
    assert {**cut, "output": output} == {**given, "truncated": True, "size": cut["size"], "sha256": cut["sha256"]}
    assert len(frame.data) < MAX_PAYLOAD_BYTES
    assert [one.data for one in await read_frames(tree.database, head, 0)] == [frame.data]
    assert await whole_events(tree) == [given]


async def test_the_cut_form_of_an_object_keeps_its_shape_and_a_text_its_beginning(tree: Tree) -> None:
    log = tree.open_log()
    text = "".join(map(str, range(30_000)))

    log.append(tree.id, ToolResult(tool_call_id="1", tool_name="t", output={"text": text, "data": {"n": 1}}))
    await log.committed()

    (event,) = await replay(tree)
    assert event["output"] == {"text": text[:PREVIEW_CHARACTERS], "data": {"n": 1}}


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1])
async def test_exactly_64_kib_are_shown_whole(tree: Tree, size: int) -> None:
    log = tree.open_log()

    log.append(tree.id, said("x" * size))
    await log.committed()

    (event,) = await replay(tree)
    assert (event.get("truncated"), len(event["content"])) == (
        (None, size) if size == MAX_PAYLOAD_BYTES else (True, PREVIEW_CHARACTERS)
    )


async def test_a_payload_of_20_mb_is_kept_in_documents_below_12_mb(tree: Tree) -> None:
    log = tree.open_log()
    text = "0123456789" * 2_000_000

    log.append(tree.id, ToolResult(tool_call_id="1", tool_name="t", output=text))
    await log.committed()

    head = await read_head(tree.database, tree.id)
    whole = orjson.loads(await read_full_event(tree.database, head, 1))
    parts = tree.database[EventPayload.get_collection_name()].find({"rootExecutionId": tree.id})
    assert whole["output"] == text
    assert max([len(bson.encode(part)) async for part in parts]) < 5 * 2**20
    assert len(bson.encode(await tree.document())) < 2**20


async def test_a_payload_stored_after_losing_the_tree_is_never_shown(tree: Tree) -> None:
    zombie = tree.open_log()
    await tree.take_over()
    zombie.append(tree.id, said("zombie " * 20_000))
    with pytest.raises(TreeLost):
        await zombie.committed()

    owner = await taken_over(tree)
    (given,) = owner.append(tree.id, said("owner " * 20_000))
    await owner.committed()

    head = await read_head(tree.database, tree.id)
    assert orjson.loads(await read_full_event(tree.database, head, 1)) == given
    assert await whole_events(tree) == [given]


async def test_a_number_that_a_stream_does_not_have_is_not_found(tree: Tree) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    log.append(tree.id, said("root's"))
    log.append(child.execution_id, said("child's"))
    await log.committed()
    head, own = [await read_head(tree.database, one) for one in (tree.id, child.execution_id)]

    assert json.loads(await read_full_event(tree.database, own, 2))["content"] == "child's"
    for stream, seq in ((head, 3), (own, 1), (own, 3)):
        with pytest.raises(EventNotFound):
            await read_full_event(tree.database, stream, seq)


@pytest.mark.usefixtures("small")
async def test_a_full_execution_can_always_end(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, *(said("x" * 60_000) for _ in range(40)))
    error = {"code": "internal-error", "message": "y" * 300_000}

    log.append(tree.id, AgentError(error=error), changes={**ENDED, "status": "failed", "error": error})
    await log.committed()

    document = await tree.document()
    assert (document["status"], document["error"], document["lastSeq"]) == ("failed", error, 41)
    assert (await replay(tree))[-1]["truncated"] is True


@pytest.mark.slow
async def test_a_run_of_thousands_of_events_completes_and_replays_at_a_constant_cost(tree: Tree) -> None:
    """4,000 events here; `make bench` does the same with 40,000."""
    log = tree.open_log()
    for number in range(4000):
        log.append(tree.id, said(f"{number} " + "x" * 900))
        if number % 500 == 0:
            await log.room()
            await asyncio.sleep(0)
    complete = AgentComplete(output={"text": "z"}, token_usage={}, cost_usd=None, stop_reason="completed")
    log.append(tree.id, complete, changes=ENDED)
    await log.committed()

    head = await read_head(tree.database, tree.id)
    seen: list[int] = []
    while frames := await read_frames(tree.database, head, seen[-1] if seen else 0):
        seen += [frame.seq for frame in frames]
    documents = [await tree.document(), *await pages_of(tree)]

    assert seen == list(range(1, 4002))
    assert max(len(bson.encode(one)) for one in documents) < 1.3 * 2**20
    assert documents[0]["status"] == "completed"
