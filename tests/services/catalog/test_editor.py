"""Catalog edits through the API: the rules hold under concurrent writes."""

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import pytest

from tests.fixtures.busy_writes import when_not_busy
from tests.fixtures.services import Service
from tests.fixtures.waiting import wait_until

DEPARTMENT = {"slug": "costume", "name": "Costume", "description": "Dresses everybody."}
AGENT = {
    "agentId": "costume-head-001",
    "name": "Head of Costume",
    "description": "Leads.",
    "department": "costume",
    "instructionsPrompt": "Lead the department.",
}
TOOL = {
    "toolName": "double",
    "displayName": "Double",
    "description": "Doubles a number.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
    "exampleInputs": [{"n": 2}],
    "executeFunction": "({ n }) => ({ doubled: n * 2 })",
    "departments": ["story"],
}


@pytest.fixture
async def http(service: Service) -> httpx.AsyncClient:
    """The admin's client."""
    return service.http


async def create(http: httpx.AsyncClient, path: str, body: dict[str, Any], **changes: Any) -> httpx.Response:  # noqa: ANN401 - any field
    """Create an entry."""
    return await http.post(f"/api/v1/{path}", json={**body, **changes})


@pytest.mark.slow
async def test_a_department_is_created_with_its_defaults_read_changed_and_deleted(http: httpx.AsyncClient) -> None:
    created = await create(http, "departments", DEPARTMENT)
    changed = await http.patch("/api/v1/departments/costume", json={"color": "#123abc", "icon": "🧵"})
    cleared = await http.patch("/api/v1/departments/costume", json={"icon": None})
    deleted = await http.delete("/api/v1/departments/costume")
    gone = await http.get("/api/v1/departments/costume")

    assert created.status_code == 201
    assert created.headers["Location"] == "/api/v1/departments/costume"
    assert created.json()["priority"] == 5
    assert changed.json() | {"updatedAt": ""} == created.json() | {"color": "#123abc", "icon": "🧵", "updatedAt": ""}
    assert cleared.json()["icon"] is None
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert gone.status_code == 404


@pytest.mark.slow
async def test_written_documents_have_payloads_form(http: httpx.AsyncClient, service: Service) -> None:
    database = service.services.database
    await create(http, "departments", DEPARTMENT)
    await create(http, "agents", AGENT, toolNames=["textStatistics"], skills=["cutting"], isDepartmentHead=True)
    await create(http, "custom-tools", TOOL)

    department = await database["departments"].find_one({"slug": "costume"})
    agent = await database["agents"].find_one({"agentId": "costume-head-001"})
    tool = await database["custom-tools"].find_one({"toolName": "double"})

    assert department is not None
    assert agent is not None
    assert tool is not None
    assert list(department)[:5] == ["_id", "createdAt", "updatedAt", "slug", "name"]
    assert "icon" not in department
    assert agent["department"] == department["_id"]
    assert agent["toolNames"][0]["toolName"] == "textStatistics"
    assert len(agent["toolNames"][0]["id"]) == len(agent["skills"][0]["id"]) == 24
    assert (agent["requiresReview"], agent["__v"]) == (False, 0)
    assert tool["exampleInputs"][0]["example"] == {"n": 2}
    assert isinstance(tool["departments"][0], type(department["_id"]))


@pytest.mark.slow
async def test_an_agent_inherits_unset_fields_from_its_department(http: httpx.AsyncClient, service: Service) -> None:
    agents = service.services.database["agents"]
    await create(http, "departments", DEPARTMENT, defaultModel="openai/gpt-4-turbo", maxAgentSteps=9)

    made = (await create(http, "agents", AGENT)).json()
    chosen = (await create(http, "agents", AGENT, agentId="costume-002", maxAgentSteps=30, model=None)).json()
    await agents.update_one({"agentId": AGENT["agentId"]}, {"$unset": {"model": 1, "maxAgentSteps": 1}})
    await http.patch("/api/v1/departments/costume", json={"maxAgentSteps": 11})
    shown = (await http.get(f"/api/v1/agents/{AGENT['agentId']}")).json()

    assert (made["model"], made["maxAgentSteps"]) == ("openai/gpt-4-turbo", 9)
    assert (chosen["model"], chosen["maxAgentSteps"]) == ("openai/gpt-4-turbo", 30)
    assert (shown["model"], shown["maxAgentSteps"]) == ("openai/gpt-4-turbo", 11)


@pytest.mark.slow
async def test_a_change_preserves_fields_stored_by_other_programs(http: httpx.AsyncClient, service: Service) -> None:
    agents = service.services.database["agents"]
    await agents.update_one({"agentId": "story-head-001"}, {"$set": {"ofAnotherProgram": {"kept": True}}})

    answer = await http.patch("/api/v1/agents/story-head-001", json={"name": "Story lead"})

    stored = await agents.find_one({"agentId": "story-head-001"})
    assert answer.status_code == 200
    assert stored is not None
    assert (stored["name"], stored["ofAnotherProgram"]) == ("Story lead", {"kept": True})


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("departments", DEPARTMENT | {"slug": "Not A Slug"}, "slug"),
        ("departments", DEPARTMENT | {"slug": "abc\n"}, "slug"),
        ("departments", DEPARTMENT | {"color": "red"}, "color"),
        ("departments", DEPARTMENT | {"priority": 11}, "priority"),
        ("departments", DEPARTMENT | {"maxAgentSteps": 4}, "maxAgentSteps"),
        ("departments", DEPARTMENT | {"defaultModel": "someone/else"}, "defaultModel"),
        ("departments", DEPARTMENT | {"role": "admin"}, "role"),
        ("departments", {"slug": "x"}, "name"),
        ("departments", DEPARTMENT | {"name": " \t "}, "name"),
        ("agents", AGENT | {"department": "story", "name": "\u00a0"}, "name"),
        ("custom-tools", TOOL | {"displayName": "  "}, "displayName"),
        ("agents", AGENT | {"department": "nowhere"}, "department"),
        ("agents", AGENT | {"department": "story", "toolNames": ["textStatistics", "noSuchTool"]}, "toolNames.1"),
        ("agents", AGENT | {"department": "story", "qualityThreshold": 101}, "qualityThreshold"),
        ("agents", AGENT | {"department": "story", "model": "gpt-5"}, "model"),
        ("agents", AGENT | {"department": {"$ne": None}}, "department"),
        ("custom-tools", TOOL | {"toolName": "Not camel"}, "toolName"),
        ("custom-tools", TOOL | {"version": "one"}, "version"),
        ("custom-tools", TOOL | {"executeFunction": "({ n }) => {"}, "executeFunction"),
        ("custom-tools", TOOL | {"inputSchema": {"type": "nonsense"}}, "inputSchema"),
        ("custom-tools", TOOL | {"exampleInputs": [{"n": 1}, {"n": "two"}]}, "exampleInputs.1.n"),
        ("custom-tools", TOOL | {"executeFunction": "() => { throw new Error('no'); }"}, "exampleInputs.0"),
        ("custom-tools", TOOL | {"departments": ["story", "nowhere"]}, "departments.1"),
    ],
)
async def test_a_value_that_breaks_a_rule_is_refused_with_its_field(
    shared_service: Service, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await shared_service.http.post(f"/api/v1/{path}", json=body)

    assert answer.status_code == 422, answer.text
    assert field in [error["path"] for error in answer.json()["errors"]]


@pytest.mark.slow
async def test_a_merge_patch_changes_and_never_creates(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}

    created = await http.post("/api/v1/departments", content=json.dumps(DEPARTMENT), headers=headers)
    changed = await http.patch("/api/v1/departments/story", content='{"name": "Tales"}', headers=headers)

    assert (created.status_code, created.json()["code"]) == (415, "unsupported-media-type")
    assert (changed.status_code, changed.json()["name"]) == (200, "Tales")


@pytest.mark.slow
async def test_read_only_fields_in_a_request_change_nothing(http: httpx.AsyncClient) -> None:
    before = (await http.get("/api/v1/departments/story")).json()

    answer = await http.patch("/api/v1/departments/story", json={"totalExecutions": 99, "id": "x", "name": "Story!"})

    assert answer.json()["totalExecutions"] == before["totalExecutions"]
    assert answer.json()["name"] == "Story!"


@pytest.mark.slow
async def test_a_key_that_exists_is_a_conflict(http: httpx.AsyncClient) -> None:
    twice = await create(http, "departments", DEPARTMENT, slug="story")
    renamed = await http.patch("/api/v1/agents/plot-specialist-001", json={"agentId": "story-head-001"})

    assert (twice.status_code, twice.json()["code"]) == (409, "already-exists")
    assert (renamed.status_code, renamed.json()["code"]) == (409, "already-exists")


@pytest.mark.long
async def test_one_of_fifty_concurrent_heads_succeeds(http: httpx.AsyncClient, service: Service) -> None:
    await create(http, "departments", DEPARTMENT)

    answers = await asyncio.gather(
        *(
            when_not_busy(partial(create, http, "agents", AGENT, agentId=f"head-{n}", isDepartmentHead=True))
            for n in range(50)
        )
    )

    heads = await service.services.database["agents"].count_documents(
        {"isDepartmentHead": True, "agentId": {"$regex": "^head-"}}
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"department-has-head"}
    assert heads == 1


@pytest.mark.slow
async def test_a_second_head_by_moving_or_promoting_is_refused_by_the_name_of_the_first(
    http: httpx.AsyncClient,
) -> None:
    moved = await http.patch("/api/v1/agents/story-head-001", json={"department": "audio"})
    promoted = await http.patch("/api/v1/agents/plot-specialist-001", json={"isDepartmentHead": True})
    edited = await http.patch("/api/v1/agents/story-head-001", json={"isDepartmentHead": True, "name": "Still head"})

    assert (moved.status_code, promoted.status_code, edited.status_code) == (409, 409, 200)
    assert "audio-head-001" in moved.json()["detail"]
    assert "story-head-001" in promoted.json()["detail"]


@pytest.mark.slow
async def test_a_head_never_requires_review_however_it_came_to_be_head(http: httpx.AsyncClient) -> None:
    await create(http, "departments", DEPARTMENT)
    await create(http, "agents", AGENT, requiresReview=True)

    promoted = await http.patch("/api/v1/agents/costume-head-001", json={"isDepartmentHead": True})
    asked = await http.patch("/api/v1/agents/costume-head-001", json={"requiresReview": True})

    assert promoted.json()["requiresReview"] is False
    assert asked.json()["requiresReview"] is False


@pytest.mark.slow
async def test_one_of_fifty_edits_with_the_same_etag_succeeds(http: httpx.AsyncClient) -> None:
    etag = (await http.get("/api/v1/agents/story-head-001")).headers["ETag"]
    headers = {"If-Match": etag}

    answers = await asyncio.gather(
        *(
            when_not_busy(
                partial(http.patch, "/api/v1/agents/story-head-001", json={"name": f"Name {n}"}, headers=headers)
            )
            for n in range(50)
        )
    )

    winner = [answer for answer in answers if answer.status_code == 200]
    now = await http.get("/api/v1/agents/story-head-001")
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 49
    assert now.json()["name"] == winner[0].json()["name"]
    assert now.headers["ETag"] == winner[0].headers["ETag"] != etag


@pytest.mark.slow
async def test_an_edit_by_hand_makes_an_etag_stale_and_statistics_do_not(
    http: httpx.AsyncClient, service: Service
) -> None:
    agents = service.services.database["agents"]
    etag = (await http.get("/api/v1/agents/story-head-001")).headers["ETag"]

    await agents.update_one({"agentId": "story-head-001"}, {"$inc": {"totalExecutions": 1}})
    after_statistics = await http.patch("/api/v1/agents/story-head-001", json={}, headers={"If-Match": etag})
    await agents.update_one({"agentId": "story-head-001"}, {"$set": {"name": "By hand"}})
    after_hand = await http.delete("/api/v1/agents/story-head-001", headers={"If-Match": etag})

    assert after_statistics.status_code == 200
    assert (after_hand.status_code, after_hand.json()["code"]) == (412, "edited-meanwhile")


@pytest.mark.slow
async def test_a_department_with_agents_and_a_named_tool_cannot_be_deleted(http: httpx.AsyncClient) -> None:
    department = await http.delete("/api/v1/departments/story")
    tool = await http.delete("/api/v1/custom-tools/textStatistics")
    renamed = await http.patch("/api/v1/custom-tools/textStatistics", json={"toolName": "otherName"})

    assert (department.status_code, department.json()["code"]) == (409, "department-has-agents")
    assert "story-head-001" in department.json()["detail"]
    assert (tool.status_code, tool.json()["code"]) == (409, "custom-tool-in-use")
    assert renamed.status_code == 409


@pytest.mark.slow
async def test_an_agent_never_ends_in_a_department_that_was_deleted_meanwhile(
    http: httpx.AsyncClient, service: Service
) -> None:
    database = service.services.database
    for number in range(8):
        slug = f"short-lived-{number}"
        await create(http, "departments", DEPARTMENT, slug=slug)

        made, deleted = await asyncio.gather(
            create(http, "agents", AGENT, agentId=f"agent-{number}", department=slug),
            http.delete(f"/api/v1/departments/{slug}"),
        )

        assert (made.status_code, deleted.status_code) in ((201, 409), (422, 204))
    known = await database["departments"].distinct("_id")
    assert await database["agents"].count_documents({"department": {"$nin": known}}) == 0


@pytest.mark.slow
async def test_a_tool_is_checked_as_a_whole_when_a_part_of_it_changes(http: httpx.AsyncClient) -> None:
    await create(http, "custom-tools", TOOL)

    stricter = {"inputSchema": {"properties": {"n": {"maximum": 1}}}, "version": "1.1.0"}
    refused = await http.patch("/api/v1/custom-tools/double", json=stricter)
    accepted = await http.patch("/api/v1/custom-tools/double", json={**stricter, "exampleInputs": [{"n": 1}]})

    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "exampleInputs.0.n")
    assert accepted.json()["inputSchema"]["properties"]["n"] == {"type": "number", "maximum": 1}


@pytest.mark.slow
async def test_runs_count_on_their_agents_departments_and_tools(http: httpx.AsyncClient, service: Service) -> None:
    await asyncio.gather(*(service.run_agent("plot-specialist-001", judge=False) for _ in range(10)))

    async def is_counted() -> bool:
        return (await http.get("/api/v1/agents/plot-specialist-001")).json()["totalExecutions"] == 10

    await wait_until(is_counted)
    agent = (await http.get("/api/v1/agents/plot-specialist-001")).json()
    department = (await http.get("/api/v1/departments/story")).json()
    assert (agent["totalExecutions"], agent["successRate"]) == (10, 100)
    assert agent["averageExecutionTime"] > 0
    assert agent["lastExecutedAt"] is not None
    assert department["totalExecutions"] == 10
