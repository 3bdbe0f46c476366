"""Granting tools: only what an agent could use is granted, and a run says what it cannot use after all."""

from typing import Any

import httpx
import pytest

from tests.fixtures.services import Service
from tests.fixtures.waiting import wait_until

AGENT = "plot-specialist-001"
TOOL: dict[str, Any] = {
    "toolName": "double",
    "displayName": "Double",
    "description": "Doubles a number.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "number"}}},
    "executeFunction": "({ n }) => ({ doubled: n * 2 })",
}
NEW_AGENT: dict[str, Any] = {
    "agentId": "new-specialist-001",
    "name": "New",
    "description": "Works.",
    "department": "story",
    "instructionsPrompt": "Work.",
}
HOSTILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        f"a{n}": {"type": "string", "pattern": f"^([a-z]{{1,90}}){{1,{n + 50}}}$", "description": "x" * 440}
        for n in range(300)
    },
}


async def create_tool(http: httpx.AsyncClient, **fields: Any) -> None:  # noqa: ANN401 - any field of a tool
    """Create a tool that is offered to no department unless the fields say so."""
    answer = await http.post("/api/v1/custom-tools", json=TOOL | fields)
    assert answer.status_code == 201, answer.text


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"departments": ["visual"]}], ids=["offered to no one", "offered elsewhere"])
async def test_a_tool_that_the_agent_could_not_use_is_not_granted(service: Service, fields: dict[str, Any]) -> None:
    await create_tool(service.http, **fields)

    created = await service.http.post("/api/v1/agents", json=NEW_AGENT | {"toolNames": ["textStatistics", "double"]})
    changed = await service.http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": ["double"]})

    assert (created.status_code, changed.status_code) == (422, 422)
    assert [answer.json()["errors"][0]["path"] for answer in (created, changed)] == ["toolNames.1", "toolNames.0"]
    assert "not offered to the department 'story'" in created.json()["detail"]
    assert (await service.http.get(f"/api/v1/agents/{NEW_AGENT['agentId']}")).status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"isGlobal": True}, {"departments": ["visual", "story"]}, {"isActive": False}])
async def test_a_tool_that_the_agent_can_use_is_granted(service: Service, fields: dict[str, Any]) -> None:
    await create_tool(service.http, **{"departments": ["story"], **fields})

    created = await service.http.post("/api/v1/agents", json=NEW_AGENT | {"toolNames": ["double"]})

    assert (created.status_code, created.json()["toolNames"]) == (201, ["double"])


@pytest.mark.slow
async def test_a_tool_that_is_granted_already_stays_when_others_are_added(service: Service) -> None:
    await create_tool(service.http, departments=["story"])
    await service.http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": ["double"]})
    await service.http.patch("/api/v1/custom-tools/double", json={"departments": []})

    changed = await service.http.patch(f"/api/v1/agents/{AGENT}", json={"toolNames": ["double", "textStatistics"]})

    assert changed.status_code == 200, changed.text


@pytest.mark.slow
async def test_a_run_names_the_granted_tools_that_it_cannot_use(service: Service) -> None:
    await create_tool(service.http, toolName="moved", departments=["visual"])
    await create_tool(service.http, toolName="off", isGlobal=True, isActive=False)
    await create_tool(service.http, toolName="hostile", isGlobal=True)
    database = service.services.database
    await database["custom-tools"].update_one({"toolName": "hostile"}, {"$set": {"inputSchema": HOSTILE_SCHEMA}})
    names = ["textStatistics", "moved", "gone", "off", "mcp:nowhere/search", "hostile"]
    rows = [{"toolName": name, "id": f"{place:024x}"} for place, name in enumerate(names)]
    await database["agents"].update_one({"agentId": AGENT}, {"$set": {"toolNames": rows}})

    async def started() -> dict[str, Any]:
        done = await service.run_agent(AGENT, judge=False)
        return (await service.events(done["executionId"]))[0]

    start: dict[str, Any] = {}

    async def names_all() -> bool:
        start.update(await started())
        return bool(start["missingTools"])

    await wait_until(names_all)

    assert start["type"] == "agent-start"
    assert start["toolNames"] == ["textStatistics"]
    assert start["missingTools"] == ["moved", "gone", "off", "mcp:nowhere/search", "hostile"]


async def test_a_run_that_can_use_all_its_tools_names_none(shared_service: Service) -> None:
    done = await shared_service.run_agent(AGENT, judge=False)

    assert (await shared_service.events(done["executionId"]))[0]["missingTools"] == []


@pytest.mark.slow
async def test_a_schema_that_is_too_heavy_to_compile_is_refused(service: Service) -> None:
    answer = await service.http.post("/api/v1/custom-tools", json=TOOL | {"inputSchema": HOSTILE_SCHEMA})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "inputSchema"
    assert "more than 65536" in answer.json()["detail"]


@pytest.mark.slow
async def test_a_department_that_a_tool_names_is_not_deleted(service: Service) -> None:
    http = service.http
    await http.post("/api/v1/departments", json={"slug": "costume", "name": "Costume", "description": "Dresses."})
    await create_tool(http, departments=["costume"])

    refused = await http.delete("/api/v1/departments/costume")
    await http.patch("/api/v1/custom-tools/double", json={"departments": []})
    deleted = await http.delete("/api/v1/departments/costume")

    assert (refused.status_code, refused.json()["code"]) == (409, "department-has-tools")
    assert "double" in refused.json()["detail"]
    assert deleted.status_code == 204
