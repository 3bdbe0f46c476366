"""Departments over HTTP: reading them, running one, and what cannot be run."""

from typing import Any

import httpx
import pytest

from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.model_server import ModelServer, fault
from tests.fixtures.services import PROJECT, Service

DEPARTMENTS = "/api/v1/departments"
FIELDS = {
    "id",
    "slug",
    "name",
    "description",
    "icon",
    "color",
    "priority",
    "isActive",
    "defaultModel",
    "maxAgentSteps",
    "averageExecutionTime",
    "totalExecutions",
    "createdAt",
    "updatedAt",
}


async def slugs_of(http: httpx.AsyncClient, **params: str) -> list[str]:
    """The slugs of a page of departments."""
    answer = await http.get(DEPARTMENTS, params=params)
    assert answer.status_code == 200, answer.text
    return [item["slug"] for item in answer.json()["items"]]


async def test_departments_are_listed_by_priority_for_everybody(anonymous: httpx.AsyncClient) -> None:
    page = (await anonymous.get(DEPARTMENTS)).json()

    assert [item["slug"] for item in page["items"]] == ["story", "character", "visual", "video", "audio", "production"]
    assert (page["total"], page["nextCursor"]) == (6, None)
    assert all(set(item) >= FIELDS for item in page["items"])
    assert page["items"][0]["createdAt"].endswith("Z")


@pytest.mark.parametrize("field", ["priority", "slug", "name", "createdAt"])
async def test_a_sort_with_a_minus_is_the_reverse_of_the_one_without(anonymous: httpx.AsyncClient, field: str) -> None:
    ascending = await slugs_of(anonymous, sort=field)

    assert await slugs_of(anonymous, sort=f"-{field}") == ascending[::-1]
    assert len(ascending) == 6


@pytest.mark.parametrize("sort", ["priority", "-name"])
async def test_pages_together_are_the_whole_list(anonymous: httpx.AsyncClient, sort: str) -> None:
    whole = await slugs_of(anonymous, sort=sort)
    pages: list[list[str]] = []
    cursor: str | None = None

    while cursor is not None or not pages:
        params = {"sort": sort, "limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = (await anonymous.get(DEPARTMENTS, params=params)).json()
        pages.append([item["slug"] for item in page["items"]])
        cursor = page["nextCursor"]

    assert [len(page) for page in pages] == [4, 2]
    assert [slug for page in pages for slug in page] == whole


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "1000000000"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"sort": "color"}, "sort"),
        ({"sort": "$where"}, "sort"),
        ({"cursor": "made-up"}, "cursor"),
        ({"cursor": "x" * 1001}, "cursor"),
    ],
)
async def test_a_page_that_cannot_be_is_422(anonymous: httpx.AsyncClient, params: dict[str, str], field: str) -> None:
    answer = await anonymous.get(DEPARTMENTS, params=params)

    assert wrong_fields(answer) == [field]


async def test_one_department_is_read_by_its_slug(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get(f"{DEPARTMENTS}/audio")

    assert answer.status_code == 200
    assert (answer.json()["slug"], answer.json()["priority"]) == ("audio", 5)


async def test_an_unknown_department_cannot_be_read_or_run(shared_service: Service) -> None:
    read = await shared_service.http.get(f"{DEPARTMENTS}/nowhere")
    run = await shared_service.http.post(f"{DEPARTMENTS}/nowhere/runs", json={"prompt": "x", "project": PROJECT})

    assert_problem(read, 404, "department-not-found")
    assert_problem(run, 404, "department-not-found")


async def test_a_department_run_is_accepted_as_its_heads_execution(
    shared_service: Service, new_key: NewKey, project: str
) -> None:
    headers = await new_key("runner")

    answer = await shared_service.http.post(
        f"{DEPARTMENTS}/story/runs", json={"prompt": "Outline.", "project": project}, headers=headers
    )

    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["executionId"] == body["rootExecutionId"]
    assert (body["kind"], body["status"], body["parentExecutionId"]) == ("department", "pending", None)
    assert (body["agent"], body["department"], body["project"]) == ("story-head-001", "story", project)
    assert answer.headers["location"] == f"/api/v1/executions/{body['executionId']}" == body["links"]["self"]
    assert body["links"] == {
        "self": answer.headers["location"],
        "events": answer.headers["location"] + "/events",
        "stream": answer.headers["location"] + "/events/stream",
        "websocket": "/api/agent-events",
    }


async def test_a_department_run_ends_with_its_report(shared_service: Service) -> None:
    run = await shared_service.run_department("story")

    report = run["output"]["report"]
    assert (run["status"], report["department"]) == ("completed", "story")
    assert len(report["specialists"]) == 4
    assert {line["status"] for line in report["specialists"]} == {"completed"}
    assert [gate["name"] for gate in report["gates"]].count("department") == 1
    assert report["summary"] == "All went well."


async def test_a_head_whose_model_fails_fails_the_run_with_its_code(
    shared_service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", fault(401, "sk-secret"))

    run = await shared_service.run_department("story")

    assert (run["status"], run["stopReason"]) == ("failed", "error")
    assert run["error"]["code"] == "model-access-denied"
    assert "sk-secret" not in str(run)


@pytest.mark.slow
async def test_a_department_or_agent_that_cannot_run_is_a_conflict_that_says_what_to_fix(service: Service) -> None:
    database = service.services.database
    await database["departments"].update_one({"slug": "story"}, {"$set": {"isActive": False}})
    await database["agents"].update_one({"agentId": "audio-head-001"}, {"$set": {"isActive": False}})
    await database["agents"].update_one({"agentId": "visual-head-001"}, {"$set": {"isDepartmentHead": False}})
    await database["agents"].update_one({"agentId": "editor-001"}, {"$set": {"department": None}})
    body = {"prompt": "x", "project": PROJECT}
    expected = {
        f"{DEPARTMENTS}/story/runs": "department-inactive",
        "/api/v1/agents/plot-specialist-001/runs": "department-inactive",
        f"{DEPARTMENTS}/audio/runs": "department-without-head",
        f"{DEPARTMENTS}/visual/runs": "department-without-head",
        "/api/v1/agents/audio-head-001/runs": "agent-inactive",
        "/api/v1/agents/editor-001/runs": "agent-without-department",
    }

    answers = {path: await service.http.post(path, json=body) for path in expected}

    for path, code in expected.items():
        assert_problem(answers[path], 409, code)
    assert await database["agent-executions"].count_documents({}) == 0


def changed(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """The body of a run with some fields changed; `...` leaves one out."""
    body = {"prompt": "x", "project": PROJECT, **fields}
    return {name: value for name, value in body.items() if value is not ...}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (changed(prompt=""), "prompt"),
        (changed(prompt="x" * 100_001), "prompt"),
        (changed(prompt="x" * 200_000), "prompt"),
        (changed(prompt=...), "prompt"),
        (changed(prompt=None), "prompt"),
        (changed(prompt=5), "prompt"),
        (changed(project=...), "project"),
        (changed(project=""), "project"),
        (changed(project="66f0"), "project"),
        (changed(project="z" * 24), "project"),
        (changed(project=None), "project"),
        (changed(episode="66f0"), "episode"),
        (changed(conversationId=""), "conversationId"),
        (changed(conversationId="x" * 201), "conversationId"),
        (changed(params="text"), "params"),
        (changed(model="unknown/nothing"), "model"),
        (changed(model={"api_base": "http://evil.example"}), "model"),
        (changed(complexity="hard"), "complexity"),
        (changed(maxRevisions=6), "maxRevisions"),
        (changed(maxRevisions=-1), "maxRevisions"),
        (changed(maxRevisions="one"), "maxRevisions"),
        (changed(deltas="perhaps"), "deltas"),
        (changed(judge=[]), "judge"),
        (changed(api_base="http://evil.example"), "api_base"),
        (changed(role="admin"), "role"),
    ],
    ids=lambda value: str(value)[-40:],
)
@pytest.mark.parametrize("path", [f"{DEPARTMENTS}/story/runs", "/api/v1/agents/plot-specialist-001/runs"])
async def test_a_run_that_cannot_be_started_names_the_field(
    shared_service: Service, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await shared_service.http.post(path, json=body)

    assert wrong_fields(answer) == [field]


async def test_a_prompt_of_exactly_100000_characters_is_taken(
    shared_service: Service, model_server: ModelServer, project: str
) -> None:
    run = await shared_service.run_agent("plot-specialist-001", prompt="ä" * 100_000, project=project, judge=False)

    assert run["status"] == "completed"
    (call,) = [call for call in model_server.calls if call.execution_id == run["executionId"]]
    assert "ä" * 100_000 in call.text
