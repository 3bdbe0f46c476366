"""Reading stored events back: ours, and those that another program stored."""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from bson import ObjectId, json_util
from hypothesis import HealthCheck, given, settings
from pydantic import JsonValue

from app.database.connection import Database, Raw
from app.events.replay import (
    PAGE_ROWS,
    ExecutionNotFound,
    StreamHead,
    count_rows,
    frames_of,
    read_events,
    read_head,
)
from app.events.types import ToolResult
from app.models.agent_execution import AgentExecution, ExecutionStatus
from tests.fixtures.event_trees import ENDED, Tree, said
from tests.fixtures.json_strategies import json_values
from tests.fixtures.model_server import Json
from tests.fixtures.services import Service

FOREIGN = "exec_1759320000000_interop01"


async def replayed(database: Database, execution_id: str, after: int = 0, limit: int = PAGE_ROWS) -> list[Json]:
    """The stored events that follow a number."""
    return await read_events(database, await read_head(database, execution_id), after, limit)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values())
async def test_a_live_frame_and_its_replay_are_equal_byte_for_byte(tree: Tree, value: JsonValue) -> None:
    log = tree.open_log(last_seq=(await tree.document())["lastSeq"])

    log.append(tree.id, ToolResult(tool_call_id="1", tool_name="t", output=value))
    await log.committed()

    live = tree.bus.frames[-1]
    stored = frames_of(await replayed(tree.database, tree.id, live.seq - 1))
    assert [frame.text for frame in stored] == [live.text]
    assert orjson.loads(live.text)["seq"] == live.seq
    await log.close()


async def test_events_follow_the_number_asked_for_up_to_a_limit(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, *map(said, range(10)))
    await log.committed()

    found = await replayed(tree.database, tree.id, after=3, limit=4)

    assert [event["seq"] for event in found] == [4, 5, 6, 7]
    assert await replayed(tree.database, tree.id, after=10) == []
    assert await replayed(tree.database, tree.id, after=10**15) == []


async def test_a_root_s_stream_is_its_tree_and_a_child_s_its_own_events(tree: Tree) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    for number in range(6):
        log.append(child.execution_id if number % 3 == 0 else tree.id, said(number))
    await log.committed()

    root_head = await read_head(tree.database, tree.id)
    child_head = await read_head(tree.database, child.execution_id)

    assert [event["seq"] for event in await read_events(tree.database, root_head, 0)] == [1, 2, 3, 4, 5, 6]
    assert [event["seq"] for event in await read_events(tree.database, child_head, 0)] == [1, 4]
    assert (root_head.last_seq, root_head.is_tree) == (6, True)
    assert (child_head.last_seq, child_head.is_tree, child_head.root_id) == (4, False, tree.id)


async def test_a_trees_last_number_may_be_in_a_child(tree: Tree) -> None:
    log = tree.open_log()
    child = tree.new_child()
    await log.add_child(child)
    log.append(tree.id, said("a"))
    log.append(child.execution_id, said("b"))
    await log.committed()

    assert (await read_head(tree.database, tree.id)).last_seq == 2


async def test_a_reader_stops_at_the_first_missing_number(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, *map(said, range(5)))
    await log.committed()
    await tree.executions.update_one({"executionId": tree.id}, {"$pull": {"events": {"event.seq": 3}}})

    assert [event["seq"] for event in await replayed(tree.database, tree.id)] == [1, 2]
    assert await replayed(tree.database, tree.id, after=2) == []
    assert [event["seq"] for event in await replayed(tree.database, tree.id, after=3)] == [4, 5]


async def test_an_unknown_execution_is_not_found(database: Database) -> None:
    with pytest.raises(ExecutionNotFound):
        await read_head(database, "exec_nobody")


async def test_a_streams_head_has_its_status_and_project(tree: Tree) -> None:
    log = tree.open_log()
    log.append(tree.id, said("a"), changes={**ENDED, "project": ObjectId("66f0a1b2c3d4e5f601234567")})
    await log.committed()

    head = await read_head(tree.database, tree.id)

    assert head == StreamHead(
        tree.id, tree.id, ExecutionStatus.COMPLETED, 1, "66f0a1b2c3d4e5f601234567", is_foreign=False
    )


async def stored_foreign(database: Database, document: Raw) -> str:
    """Store another program's execution under an id of its own."""
    execution_id = f"{document['executionId']}_{ObjectId()}"
    await database[AgentExecution.get_collection_name()].insert_one(
        {**document, "_id": ObjectId(), "executionId": execution_id}
    )
    return execution_id


async def test_an_execution_of_another_program_is_numbered_by_place(
    database: Database, payload_documents: dict[str, Any]
) -> None:
    rows = json_util.loads(json.dumps(payload_documents["documents"]["agent-executions"]))
    execution_id = await stored_foreign(database, next(row for row in rows if row["executionId"] == FOREIGN))

    found = await replayed(database, execution_id)

    common = {"executionId": execution_id, "rootExecutionId": execution_id}
    assert found == [
        {
            "type": "agent-start",
            "seq": 1,
            **common,
            "timestamp": "2025-10-01T12:00:00.000Z",
            "agentId": "dialogue-specialist-001",
        },
        {
            "type": "tool-call",
            "seq": 2,
            **common,
            "timestamp": "2025-10-01T12:00:00.500Z",
            "toolName": "wordCount",
            "input": {"text": "Late again."},
        },
        {
            "type": "agent-complete",
            "seq": 3,
            **common,
            "timestamp": "2025-10-01T12:00:01.500Z",
            "output": {"ok": True},
        },
    ]
    head = await read_head(database, execution_id)
    assert (head.is_foreign, head.last_seq, head.is_tree) == (True, 3, False)
    assert [event["seq"] for event in await replayed(database, execution_id, after=1, limit=1)] == [2]


async def test_an_execution_of_another_program_without_events_is_empty(
    database: Database, payload_documents: dict[str, Any]
) -> None:
    rows = json_util.loads(json.dumps(payload_documents["documents"]["agent-executions"]))
    execution_id = await stored_foreign(database, next(row for row in rows if "events" not in row))

    assert await replayed(database, execution_id) == []
    assert await count_rows(database, execution_id) == 0


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"event": {"type": "x", "timestamp": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)}}, {"type": "x"}),
        ({"event": {"type": "x", "executionId": "other", "seq": 77, "rootExecutionId": 5}}, {"type": "x"}),
        ({"event": {"value": ObjectId("66f0a1b2c3d4e5f601234567")}}, {"value": "66f0a1b2c3d4e5f601234567"}),
        ({"event": {"count": 2**60}}, {"count": float(2**60)}),
        ({"event": "just text"}, {"value": "just text"}),
        ({"event": [1, 2]}, {"value": [1, 2]}),
        ({"event": 7}, {"value": 7}),
        ({"event": None}, {"value": None}),
        ({"id": "66f0a1b2c3d4e5f601234567"}, {"value": None}),
        ("not even a row", {"value": "not even a row"}),
        (None, {"value": None}),
        ({"event": {"type": 5, "timestamp": 1759320000000}}, {"type": "5", "timestamp": 1759320000000}),
    ],
)
async def test_a_row_of_any_shape_is_shown_as_an_event(
    database: Database, row: object, fields: dict[str, JsonValue]
) -> None:
    execution_id = await stored_foreign(database, {"executionId": "odd", "events": [row, row]})

    found = await replayed(database, execution_id)

    ids = {"executionId": execution_id, "rootExecutionId": execution_id}
    assert [event["seq"] for event in found] == [1, 2]
    assert {name: found[0].get(name) for name in (*ids, *fields)} == ids | fields
    assert list(found[0])[:5] == ["type", "seq", "executionId", "rootExecutionId", "timestamp"]
    assert [frame.seq for frame in frames_of(found)] == [1, 2]


async def test_a_bson_date_is_shown_in_the_wire_s_form(database: Database) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    execution_id = await stored_foreign(
        database, {"executionId": "dated", "events": [{"event": {"type": "x", "timestamp": when}}]}
    )

    assert (await replayed(database, execution_id))[0]["timestamp"] == "2026-01-02T03:04:05.678Z"


@pytest.mark.slow
async def test_an_unknown_status_makes_an_execution_unreadable_and_not_an_error(service: Service) -> None:
    await service.services.database["agent-executions"].insert_one({"executionId": "exec_odd", "status": "on hold"})

    answer = await service.http.get("/api/v1/executions/exec_odd/events")

    assert answer.status_code == 404
