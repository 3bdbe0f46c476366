"""The list of executions and of their model calls, compared with the single answers."""

from typing import Any

import pytest
from bson import ObjectId

from app.kit.times import utc_now
from tests.fixtures.http_api import insert_foreign_executions, wrong_fields
from tests.fixtures.model_server import ModelServer, plan_of
from tests.fixtures.services import Service

EXECUTIONS = "/api/v1/executions"
ONLY_SINGLE = ("params", "output", "runState")


async def test_an_item_of_the_list_is_the_single_answer_without_the_large_fields(
    shared_service: Service, project: str, model_server: ModelServer
) -> None:
    model_server.on("plan", plan_of(("plot-specialist-001", "Plot.", []), ("theme-specialist-001", "Theme.", [])))
    root = await shared_service.run_department("story", project=project)
    part = (await shared_service.http.get(f"{root['links']['self']}/tree")).json()["children"][0]["executionId"]
    review = {"status": "approved", "notes": "Fine."}
    await shared_service.http.post(f"{EXECUTIONS}/{part}/review", json=review)  # an event after the root's last one
    rows = [{"event": {"type": "agent-start"}}, {"event": {"type": "agent-complete"}}]
    fields = {"project": ObjectId(project), "events": rows, "createdAt": utc_now(), "updatedAt": utc_now()}
    await insert_foreign_executions(shared_service, 1, **fields)

    page = (await shared_service.http.get(EXECUTIONS, params={"project": project})).json()

    assert page["total"] == len(page["items"]) == 4
    for item in page["items"]:
        single = (await shared_service.http.get(f"{EXECUTIONS}/{item['executionId']}")).json()
        assert item == {name: value for name, value in single.items() if name not in ONLY_SINGLE}
    assert {item["reviewNotes"] for item in page["items"]} >= {"Fine."}


@pytest.mark.parametrize("limit", [1, 3, 200])
async def test_model_calls_are_listed_in_the_order_of_their_events_or_its_reverse(
    shared_service: Service, project: str, model_server: ModelServer, limit: int
) -> None:
    model_server.on("plan", plan_of(("plot-specialist-001", "Plot.", []), ("theme-specialist-001", "Theme.", [])))
    path = f"{(await shared_service.run_department('story', project=project))['links']['self']}/calls"

    forwards = await read_all(shared_service, path, limit=limit)
    backwards = await read_all(shared_service, path, limit=limit, sort="-seq")

    assert len(forwards) >= 7
    assert [row["seq"] for row in forwards] == sorted(row["seq"] for row in forwards)
    assert backwards == forwards[::-1]


async def test_a_cursor_of_model_calls_belongs_to_its_sort(shared_service: Service, project: str) -> None:
    path = f"{(await shared_service.run_agent('plot-specialist-001', project=project))['links']['self']}/calls"
    cursor = (await shared_service.http.get(path, params={"limit": 1, "sort": "-seq"})).json()["nextCursor"]

    assert wrong_fields(await shared_service.http.get(path, params={"cursor": cursor})) == ["cursor"]
    assert wrong_fields(await shared_service.http.get(path, params={"sort": "model"})) == ["sort"]


async def read_all(service: Service, path: str, **params: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any parameter
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    while True:
        page = (await service.http.get(path, params=params)).json()
        assert len(page["items"]) <= params["limit"]
        items += page["items"]
        if page["nextCursor"] is None:
            assert page["total"] == len(items)
            return items
        params["cursor"] = page["nextCursor"]
