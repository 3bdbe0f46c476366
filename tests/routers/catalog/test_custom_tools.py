"""Custom tools over HTTP: everybody reads them, admins see their code."""

import httpx
import pytest
from bson import ObjectId
from pymongo import ReturnDocument

from tests.fixtures.http_api import NewKey, assert_problem, wrong_fields
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.services import PROJECT, Service

TOOLS = "/api/v1/custom-tools"
TOOL = f"{TOOLS}/textStatistics"


async def test_all_tools_are_listed_by_their_names(anonymous: httpx.AsyncClient) -> None:
    page = (await anonymous.get(TOOLS)).json()

    names = [item["toolName"] for item in page["items"]]
    assert (len(names), page["total"], page["nextCursor"]) == (17, 17, None)
    assert names == sorted(names)


@pytest.mark.parametrize("role", [None, "viewer", "runner"])
async def test_the_code_of_a_tool_is_hidden_from_all_but_admins(
    anonymous: httpx.AsyncClient, new_key: NewKey, role: str | None
) -> None:
    headers = await new_key(role) if role else {}

    one = (await anonymous.get(TOOL, headers=headers)).json()
    page = (await anonymous.get(TOOLS, headers=headers)).json()

    assert one["toolName"] == "textStatistics"
    assert one["executeFunction"] is None
    assert not any("executeFunction" in tool for tool in page["items"])


async def test_admins_see_the_code_of_a_single_tool(shared_service: Service, new_key: NewKey) -> None:
    headers = await new_key("admin")

    one = (await shared_service.http.get(TOOL, headers=headers)).json()

    assert "input" in one["executeFunction"]


async def test_a_tool_is_shown_with_its_schema_its_examples_and_its_departments_by_slug(
    anonymous: httpx.AsyncClient,
) -> None:
    page = (await anonymous.get(TOOLS)).json()

    for tool in page["items"]:
        assert tool["inputSchema"]["type"] == "object"
        assert all(isinstance(example, dict) and "id" not in example for example in tool["exampleInputs"])
        assert tool["isGlobal"] or tool["departments"]
        assert not any(ObjectId.is_valid(slug) for slug in tool["departments"])


async def test_an_unknown_tool_is_not_found(anonymous: httpx.AsyncClient) -> None:
    assert_problem(await anonymous.get(f"{TOOLS}/noSuchTool"), 404, "custom-tool-not-found")


async def test_an_invalid_sort_is_422(anonymous: httpx.AsyncClient) -> None:
    assert wrong_fields(await anonymous.get(TOOLS, params={"sort": "executeFunction"})) == ["sort"]


@pytest.mark.slow
async def test_tool_code_that_does_not_parse_is_a_result_the_model_sees_and_the_run_continues(
    service: Service, model_server: ModelServer
) -> None:
    database = service.services.database
    tool = await database["custom-tools"].find_one_and_update(
        {"toolName": "textStatistics"},
        {"$set": {"executeFunction": "input => {{{", "isGlobal": True, "inputSchema": {"type": "object"}}},
        return_document=ReturnDocument.AFTER,
    )
    assert tool is not None
    rows = [{"toolName": "textStatistics", "id": str(ObjectId())}]
    await database["agents"].update_one({"agentId": "plot-specialist-001"}, {"$set": {"toolNames": rows}})
    model_server.on(
        "work", lambda call: "Without it, then." if call.tool_results else completion(None, ("textStatistics", {}))
    )

    run = await service.run_agent("plot-specialist-001", project=PROJECT, judge=False)

    assert (run["status"], run["output"]["text"]) == ("completed", "Without it, then.")
    (result,) = [event for event in await service.events(run["executionId"]) if event["type"] == "tool-result"]
    assert result["output"]["error"]["code"]
    assert result["output"]["error"]["message"]
