"""Documents that someone has changed past the service: each costs its own answer, and no one else's."""

import asyncio
from typing import Any

import pytest
from bson import ObjectId

from app.database.connection import Database
from app.events.log.full_events import tree_events
from app.events.replay import read_head
from app.kit.times import utc_now
from app.services.catalog.tool_rules import precedence
from tests.fixtures.services import PROJECT, Service

EVENTS: list[dict[str, Any]] = [
    {"type": "agent-start", "seq": 1, "executionId": "odd", "rootExecutionId": "odd"},
    {"type": "agent-complete", "seq": 2, "executionId": "odd", "rootExecutionId": "odd"},
]
FORGED = 'agent-start\nid: 77\nevent: forged\ndata: {"type":"forged"}\n\n'


async def store(database: Database, **fields: Any) -> None:  # noqa: ANN401 - any stored value
    """Store an ended execution `odd` of ours, with some fields changed."""
    raw: dict[str, Any] = {
        "executionId": "odd",
        "rootExecutionId": "odd",
        "project": ObjectId(PROJECT),
        "status": "completed",
        "lastSeq": 2,
        "events": [{"event": event, "id": f"{event['seq']:024x}"} for event in EVENTS],
        "createdAt": utc_now(),
        "updatedAt": utc_now(),
        "fence": 1,
    }
    await database["agent-executions"].insert_one(raw | fields)


@pytest.mark.slow
@pytest.mark.parametrize("parent", ["odd", "other"])
async def test_executions_that_are_their_own_ancestors_are_reviewed_and_shown(service: Service, parent: str) -> None:
    database = service.services.database
    await store(database, parentExecutionId=parent)
    await store(database, executionId="other", parentExecutionId="odd", events=[], lastSeq=0)

    async with asyncio.timeout(20):
        reviewed = await service.http.post("/api/v1/executions/odd/review", json={"status": "approved"})
        back = {"status": "revision-needed", "notes": "Again."}
        await service.http.post("/api/v1/executions/odd/review", json=back)
        tree = await service.http.get("/api/v1/executions/odd/tree")
        health = await service.http.get("/healthz")

    assert reviewed.status_code == 200, reviewed.text
    assert (tree.status_code, health.status_code) == (200, 200)
    assert [child["executionId"] for child in tree.json()["children"]] == ["other"]


@pytest.mark.parametrize("number", [2**50, 2**62, 1e300, float("nan"), float("inf"), -5, "many", [1], True])
async def test_a_last_number_that_cannot_be_one_is_replaced_by_what_is_stored(
    database: Database, number: object
) -> None:
    await store(database, lastSeq=number)

    async with asyncio.timeout(10):
        head = await read_head(database, "odd")
        events = [event async for _, event in tree_events(database, "odd")]

    assert head.last_seq == 2
    assert [event["seq"] for event in events] in ([1, 2], [])


@pytest.mark.slow
async def test_a_run_that_claims_very_many_events_ends_its_stream(service: Service) -> None:
    await store(service.services.database, lastSeq=900_000_000)

    async with asyncio.timeout(20):
        stream = await service.http.get("/api/v1/executions/odd/events/stream")
        prompts = await service.http.get("/api/v1/executions/odd/prompts")

    assert "event: agent-complete" in stream.text
    assert "events-missing" in stream.text
    assert prompts.status_code == 200


async def test_events_behind_a_gap_are_found_without_counting_through_it(database: Database) -> None:
    far = {"type": "agent-complete", "seq": 800_000_000, "executionId": "odd", "rootExecutionId": "odd"}
    rows = [{"event": event, "id": f"{place:024x}"} for place, event in enumerate([*EVENTS, far])]
    await store(database, lastSeq=900_000_000, events=rows)

    async with asyncio.timeout(10):
        events = [event["seq"] async for _, event in tree_events(database, "odd")]

    assert events == [1, 2, 800_000_000]


@pytest.mark.slow
@pytest.mark.parametrize(
    "events",
    [
        *({"a": 1}, [5], [{"event": {"seq": "x"}}]),
        *(pytest.param(one, marks=pytest.mark.long) for one in ("gone", 5, [{"event": 5}])),
    ],
)
@pytest.mark.parametrize("status", [pytest.param("completed", marks=pytest.mark.long), "running"])
async def test_events_that_are_not_a_list_end_a_stream_and_fail_no_call(
    service: Service, events: object, status: str
) -> None:
    await store(service.services.database, events=events, status=status)

    async with asyncio.timeout(30):
        stream = await service.http.get("/api/v1/executions/odd/events/stream")
        page = await service.http.get("/api/v1/executions/odd/events")
        listed = await service.http.get("/api/v1/executions", params={"project": PROJECT})

    assert "event: error" in stream.text
    assert (page.status_code, listed.status_code) == (200, 200)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *(FORGED, "x\r", ["agent-start"]),
        *(pytest.param(one, marks=pytest.mark.long) for one in ("", None, 5, "x" * 65)),
    ],
)
async def test_no_type_of_an_event_forges_a_frame(service: Service, kind: object) -> None:
    rows = [{"event": EVENTS[0] | {"type": kind}, "id": "0" * 24}, {"event": EVENTS[1], "id": "1" * 24}]
    await store(service.services.database, events=rows)

    answer = await service.http.get("/api/v1/executions/odd/events/stream")

    frames = [frame for frame in answer.text.split("\n\n") if frame]
    assert [frame.splitlines()[0] for frame in frames] == ["id: 1", "id: 2", "event: execution-end"]
    assert "event: unknown" in frames[0]


@pytest.mark.parametrize("version", ["1" * 5000 + ".0.0", "1.0.0-" + "1" * 5000, "one"])
def test_a_version_of_very_many_digits_comes_before_all_others(version: str) -> None:
    assert precedence(version) < precedence("0.0.1")


@pytest.mark.slow
async def test_a_key_with_an_odd_role_is_refused_and_leaves_the_list_of_keys_whole(service: Service) -> None:
    made = await service.http.post("/api/v1/api-keys", json={"name": "good", "role": "viewer"})
    odd = await service.http.post("/api/v1/api-keys", json={"name": "odd", "role": "viewer"})
    keys = service.services.database["api-keys"]
    await keys.update_one({"_id": ObjectId(odd.json()["id"])}, {"$set": {"role": "emperor"}})

    listed = await service.http.get("/api/v1/api-keys")
    read = await service.http.get(f"/api/v1/api-keys/{odd.json()['id']}")
    used = await service.http.get("/api/v1/executions", headers={"Authorization": f"Bearer {odd.json()['key']}"})
    deleted = await service.http.delete(f"/api/v1/api-keys/{odd.json()['id']}")

    assert [key["id"] for key in listed.json()["items"]] == [made.json()["id"]]
    assert (read.status_code, read.json()["code"]) == (409, "stored-document-invalid")
    assert read.json()["errors"][0]["path"] == "role"
    assert (used.status_code, deleted.status_code) == (401, 204)
