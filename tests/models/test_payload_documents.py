"""One database for Payload and the service: each reads what the other wrote, to the letter of the documents."""

import re
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, json_util

from app.database.connection import Database, Raw, bind_documents, connect
from app.services.catalog.seeds.insertion import insert_missing_seeds
from tests.fixtures.http_api import open_socket
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.payload_rules import COLLECTIONS, KEY_ORDER, violations
from tests.fixtures.services import PROJECT, Service, StartService


@pytest.fixture(scope="session")
def payload(payload_documents: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The documents and indexes as BSON values."""
    return json_util.loads(json_util.dumps(payload_documents))


@pytest.fixture
async def raw_database(database_uri: str, payload: dict[str, dict[str, Any]]) -> AsyncGenerator[Database]:
    """A database as Payload leaves it: its documents and its indexes, before the service saw it."""
    opened = await connect(database_uri)
    for name in COLLECTIONS:
        await opened[name].insert_many([dict(document) for document in payload["documents"][name]])
        for index in payload["indexes"][name]:
            if index["name"] != "_id_":
                options = {key: value for key, value in index.items() if key not in ("key", "v")}
                await opened[name].create_index([(field, int(way)) for field, way in index["key"]], **options)
    yield opened
    await opened.client.close()


@pytest.fixture
async def beside_payload(
    raw_database: Database, start_service: StartService, models_config: object
) -> AsyncGenerator[Service]:
    """A service that starts on Payload's database."""
    assert raw_database.name
    async with start_service(models_config=models_config, seed_on_start=False) as service:
        yield service


@pytest.mark.slow
async def test_payloads_documents_are_shown_and_left_as_they_are(
    beside_payload: Service, payload: dict[str, dict[str, Any]]
) -> None:
    http, database = beside_payload.http, beside_payload.services.database

    departments = (await http.get("/api/v1/departments")).json()
    agents = (await http.get("/api/v1/agents")).json()
    tools = (await http.get("/api/v1/custom-tools")).json()
    executions = (await http.get("/api/v1/executions")).json()

    assert [one["slug"] for one in departments["items"]][:3] == ["story", "character", "visual"]
    assert {one["agentId"]: one["department"] for one in agents["items"]} == {
        "story-head-001": "story",
        "dialogue-specialist-001": "story",
        "character-head-001": "character",
    }
    assert {one["toolName"]: one["departments"] for one in tools["items"]} == {
        "wordCount": [],
        "sceneOutline": ["story", "character"],
    }
    assert {one["executionId"] for one in executions["items"]} == {
        "exec_1759320000000_interop01",
        "exec_1759320000000_interop02",
    }
    for name in COLLECTIONS:
        stored = await database[name].find().sort("_id").to_list()
        expected = sorted(payload["documents"][name], key=lambda document: document["_id"])
        assert [json_util.dumps(one) for one in stored] == [json_util.dumps(one) for one in expected]


@pytest.mark.slow
async def test_an_execution_of_payloads_is_shown_whole_with_its_rows_numbered_by_their_place(
    beside_payload: Service,
) -> None:
    execution_id = "exec_1759320000000_interop01"

    shown = (await beside_payload.http.get(f"/api/v1/executions/{execution_id}")).json()
    events = await beside_payload.events(execution_id)
    async with open_socket(beside_payload) as socket:
        await socket.ask(type="subscribe", executionId=execution_id)
        *streamed, end = await socket.until_end()

    assert (shown["status"], shown["qualityScore"], shown["reviewStatus"]) == ("completed", 87.5, "approved")
    assert (shown["agent"], shown["department"], shown["reviewedBy"]) == (
        "dialogue-specialist-001",
        "story",
        "story-head-001",
    )
    assert shown["params"] == {"tone": "dry", "limit": 2, "ratio": 0.5, "nested": {"list": [1, "two", None]}}
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[0]["timestamp"]) == ("agent-start", "2025-10-01T12:00:00.000Z")
    assert streamed == events
    assert end["lastSeq"] == len(events)


@pytest.mark.slow
async def test_payloads_agents_tools_and_departments_run_and_a_pending_execution_of_its_own_never_does(
    beside_payload: Service, payload: dict[str, dict[str, Any]], model_server: ModelServer
) -> None:
    model_server.on(
        "work",
        lambda call: (
            f"{call.tool_results[0]['words']} words."
            if call.tool_results
            else completion(None, ("wordCount", {"text": "one two three"}))
        ),
    )

    run = await beside_payload.run_agent("dialogue-specialist-001", judge=False)
    department = await beside_payload.run_department("story")
    alone = await beside_payload.run_department("character")
    await beside_payload.services.engine.dispatcher.take_waiting(64)

    assert (run["status"], run["output"]["text"]) == ("completed", "3 words.")
    assert (department["status"], alone["status"]) == ("completed", "completed")
    assert [line["agentId"] for line in department["output"]["report"]["specialists"]] == ["dialogue-specialist-001"]
    assert alone["output"]["report"]["specialists"] == []
    (theirs,) = [one for one in payload["documents"]["agent-executions"] if one["status"] == "pending"]
    stored = await beside_payload.services.database["agent-executions"].find_one({"_id": theirs["_id"]})
    assert json_util.dumps(stored) == json_util.dumps(theirs)


UNSET: dict[str, Callable[[Raw, str], None]] = {
    "missing": lambda document, name: document.__delitem__(name),
    "null": lambda document, name: document.__setitem__(name, None),
    "empty": lambda document, name: document.__setitem__(name, [] if isinstance(document[name], list) else None),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", UNSET)
async def test_optional_fields_may_be_unset_in_each_of_the_three_ways(
    raw_database: Database, start_service: StartService, models_config: object, kind: str
) -> None:
    required = {"_id", "slug", "agentId", "toolName", "executionId", "department", "isDepartmentHead", "project"}
    for name in COLLECTIONS:
        async for document in raw_database[name].find():
            for field in set(document) - required:
                UNSET[kind](document, field)
            await raw_database[name].replace_one({"_id": document["_id"]}, document)

    async with start_service(models_config=models_config, seed_on_start=False) as service:
        lists = [
            (await service.http.get(f"/api/v1/{name}")).json()
            for name in ("departments", "agents", "custom-tools", "executions")
        ]
        run = await service.run_agent("dialogue-specialist-001")
        department = await service.run_department("story")
        foreign = (await service.http.get("/api/v1/executions/exec_1759320000000_interop01")).json()

    assert [page["total"] for page in lists] == [6, 3, 2, 2]
    assert [len(page["items"]) for page in lists] == [6, 3, 2, 2]
    assert (run["status"], department["status"]) == ("completed", "completed")
    assert (foreign["status"], foreign["reviewStatus"], foreign["retryCount"]) == ("pending", "pending", 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [Int64, float], ids=["Int64", "Double"])
async def test_numbers_of_any_bson_type_are_read(
    raw_database: Database, start_service: StartService, models_config: object, number: Callable[[Any], Any]
) -> None:
    def retyped(value: Any) -> Any:  # noqa: ANN401 - any BSON value
        if isinstance(value, dict):
            return {key: retyped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [retyped(item) for item in value]
        return number(value) if isinstance(value, int) and not isinstance(value, bool) else value

    for name in COLLECTIONS:
        async for document in raw_database[name].find():
            await raw_database[name].replace_one({"_id": document["_id"]}, retyped(document))

    async with start_service(models_config=models_config, seed_on_start=False) as service:
        department = (await service.http.get("/api/v1/departments/character")).json()
        agent = (await service.http.get("/api/v1/agents/dialogue-specialist-001")).json()
        run = await service.run_department("story")
        page = (await service.http.get("/api/v1/departments", params={"limit": 2, "sort": "priority"})).json()
        rest = await service.http.get("/api/v1/departments", params={"sort": "priority", "cursor": page["nextCursor"]})

    assert (department["priority"], agent["maxAgentSteps"], agent["qualityThreshold"]) == (2, 10, 70)
    assert isinstance(department["priority"], int)
    assert run["status"] == "completed"
    assert len(rest.json()["items"]) == 4


@pytest.mark.slow
async def test_rows_without_ids_dates_as_strings_and_unknown_fields_are_read(beside_payload: Service) -> None:
    database = beside_payload.services.database
    agents, executions = database["agents"], database["agent-executions"]
    await agents.update_one(
        {"agentId": "dialogue-specialist-001"},
        {"$set": {"toolNames": [{"toolName": "wordCount"}], "skills": [{"skill": "x", "more": 1}], "ofTheCms": [1]}},
    )
    when = datetime.fromisoformat("2025-10-01T12:00:00+00:00")
    rows = [{"event": {"type": "agent-start", "timestamp": when}}, {"event": {"type": "odd", "timestamp": "soon"}}, {}]
    await executions.update_one({"executionId": "exec_1759320000000_interop02"}, {"$set": {"events": rows}})

    agent = (await beside_payload.http.get("/api/v1/agents/dialogue-specialist-001")).json()
    events = await beside_payload.events("exec_1759320000000_interop02")

    assert (agent["toolNames"], agent["skills"]) == (["wordCount"], ["x"])
    assert [(event["seq"], event["type"], event["timestamp"]) for event in events] == [
        (1, "agent-start", "2025-10-01T12:00:00.000Z"),
        (2, "odd", "soon"),
        (3, "unknown", None),
    ]


@pytest.mark.slow
async def test_numbers_that_json_does_not_have_spoil_no_answer(beside_payload: Service) -> None:
    database = beside_payload.services.database
    odd = {"averageExecutionTime": float("nan"), "successRate": float("inf"), "qualityThreshold": float("-inf")}
    await database["agents"].update_one({"agentId": "dialogue-specialist-001"}, {"$set": odd})
    await database["custom-tools"].update_one({"toolName": "wordCount"}, {"$set": {"inputSchema.of": ObjectId()}})
    await database["agent-executions"].update_one(
        {"executionId": "exec_1759320000000_interop01"},
        {"$set": {"output": {"cost": Decimal128("1.5"), "n": float("nan")}, "executionTime": float("nan")}},
    )

    for path in ("agents", "custom-tools", "executions", "executions/exec_1759320000000_interop01"):
        answer = await beside_payload.http.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        assert not {"NaN", "Infinity"} & set(re.findall(r"NaN|Infinity", answer.text))


async def broken_rules(database: Database, name: str, **selector: Any) -> list[tuple[ObjectId, str]]:  # noqa: ANN401 - any value
    """Each broken rule of each document that matches."""
    return [(raw["_id"], wrong) async for raw in database[name].find(selector) for wrong in violations(name, raw)]


@pytest.mark.parametrize("name", ["departments", "agents", "custom-tools"])
async def test_the_seeds_obey_every_rule_for_writers_besides_payload(shared_service: Service, name: str) -> None:
    await shared_service.run_department("story")

    assert await shared_service.services.database[name].count_documents({}) > 0
    assert await broken_rules(shared_service.services.database, name) == []


@pytest.mark.slow
async def test_the_executions_of_runs_obey_every_rule(shared_service: Service, model_server: ModelServer) -> None:
    model_server.on("judge", '{"confidence": 1e300, "completeness": 0.5, "reasoning": "\\ud800"}')
    model_server.on(
        "work",
        lambda call: (
            "Done."
            if call.tool_results or not call.tools
            else completion("Hm.", (call.tools[0], {"n": 2**60, "x": [None, 1e999]}), ("nobodysTool", "not json"))
        ),
    )
    project = ObjectId()
    run = await shared_service.run_department(
        "story", project=str(project), episode=PROJECT, params={"deep": [1, None]}
    )
    await shared_service.run_agent("plot-specialist-001", project=str(project), conversationId="c-1")

    executions = shared_service.services.database["agent-executions"]
    assert run["status"] == "completed"
    assert await executions.count_documents({"project": project, "status": "completed"}) == 6
    assert await broken_rules(shared_service.services.database, "agent-executions", project=project) == []


async def test_failed_executions_obey_every_rule(shared_service: Service, model_server: ModelServer) -> None:
    model_server.on("work", completion(""))
    project = ObjectId()
    await shared_service.run_department("story", project=str(project))
    await shared_service.run_agent("plot-specialist-001", project=str(project))

    executions = shared_service.services.database["agent-executions"]
    assert await executions.count_documents({"project": project, "status": "failed"}) == 6
    assert await broken_rules(shared_service.services.database, "agent-executions", project=project) == []


@pytest.mark.parametrize("name", COLLECTIONS)
async def test_a_new_document_has_payloads_keys_in_payloads_order_and_the_engines_own_behind_them(
    shared_service: Service, payload: dict[str, dict[str, Any]], name: str
) -> None:
    run = await shared_service.run_agent("plot-specialist-001", judge=False)
    selector = {"executionId": run["executionId"]} if name == "agent-executions" else {}
    order = KEY_ORDER[name].split()

    stored = await shared_service.services.database[name].find_one(selector)

    assert stored is not None
    shared = list(stored)[: list(stored).index("__v") + 1]
    assert shared == [key for key in order if key in shared]
    for document in payload["documents"][name]:
        assert list(document) == [key for key in order if key in document], "the order that is checked is Payload's"
    assert set.intersection(*(set(document) for document in payload["documents"][name])) <= set(stored)


@pytest.mark.parametrize("name", ["departments", "agents", "custom-tools"])
async def test_the_defaults_are_payloads(database: Database, payload: dict[str, dict[str, Any]], name: str) -> None:
    theirs = payload["documents"][name][0]
    await insert_missing_seeds(database)

    ours = await database[name].find_one()

    assert ours is not None
    for field in {"isActive", "version", "totalExecutions", "__v"} & set(theirs):
        assert (ours[field], type(ours[field])) == (theirs[field], type(theirs[field])), field


async def test_the_indexes_are_payloads_to_the_letter_and_ours_beside_them(
    database: Database, payload: dict[str, dict[str, Any]]
) -> None:
    ours = {
        "departments": set[str](),
        "agents": {"department_1_head_unique"},
        "custom-tools": set[str](),
        "agent-executions": {"project_1_startedAt_-1", "department_1_startedAt_-1"},
    }
    for name in COLLECTIONS:
        built = {index["name"]: comparable(index) async for index in await database[name].list_indexes()}
        theirs = {index["name"]: comparable(index) for index in payload["indexes"][name]}
        assert {index: built.get(index) for index in theirs} == theirs
        assert ours[name] <= set(built) - set(theirs)
    head = (await database["agents"].index_information())["department_1_head_unique"]
    assert head["unique"]
    assert head["partialFilterExpression"] == {"isDepartmentHead": True}


@pytest.mark.slow
async def test_neither_side_disturbs_the_others_indexes(
    raw_database: Database, payload: dict[str, dict[str, Any]]
) -> None:
    await bind_documents(raw_database)

    for name in COLLECTIONS:
        for index in payload["indexes"][name]:
            options = {key: value for key, value in index.items() if key not in ("key", "v", "name")}
            if index["name"] != "_id_":
                keys = [(field, int(way)) for field, way in index["key"]]
                assert await raw_database[name].create_index(keys, name=index["name"], **options) == index["name"]


def comparable(index: Any) -> dict[str, Any]:  # noqa: ANN401 - an index as either side lists it
    """An index by what two programs can disagree about."""
    keys = index["key"].items() if hasattr(index["key"], "items") else index["key"]
    options = {key: value for key, value in index.items() if key not in ("key", "v", "name", "ns")}
    return options | {"key": [(field, int(way)) for field, way in keys]}
