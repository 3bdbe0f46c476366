"""Loading definitions for runs: what is cached, what is queried, what cannot be run."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from bson import Int64, ObjectId
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from structlog.testing import capture_logs

from app.database.audit_marks import SERVICE
from app.database.connection import Database, Raw
from app.models.base import new_row_id
from app.models.stored_document import StoredDocumentInvalid
from app.services.catalog.editor import CatalogEditor
from app.services.catalog.input_schemas import AgentUpdate
from app.services.catalog.loader import (
    AgentInactive,
    AgentNotFound,
    AgentWithoutDepartment,
    DefinitionLoader,
    DepartmentInactive,
    DepartmentNotFound,
    DepartmentWithoutHead,
)
from app.services.catalog.seeds.insertion import insert_missing_seeds
from app.services.catalog.tool_checker import ToolChecker
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from tests.fixtures.waiting import wait_until


class Finds(CommandListener):
    """Counts the queries of a client by collection."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def started(self, event: CommandStartedEvent) -> None:
        """A command was sent."""
        if event.command_name in ("find", "aggregate"):
            self.count[event.command[event.command_name]] += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """A command was answered."""

    def failed(self, event: CommandFailedEvent) -> None:
        """A command was refused."""


@pytest.fixture
def finds() -> Finds:
    """The queries that the loader makes."""
    return Finds()


@pytest.fixture
async def watched(database: Database, database_uri: str, finds: Finds) -> AsyncGenerator[Database]:
    """The test's database through a client whose queries are counted."""
    async with AsyncMongoClient[Raw](database_uri, tz_aware=True, event_listeners=[finds]) as client:
        yield client[database.name]


@pytest.fixture
async def loader(watched: Database) -> DefinitionLoader:
    """A loader that remembers for as long as a test lasts."""
    return DefinitionLoader(watched, ttl_seconds=300)


async def add_department(database: Database, slug: str = "story", **fields: Any) -> ObjectId:  # noqa: ANN401 - any value
    """Store a department as another program might: with the fields of the test alone."""
    return (await database["departments"].insert_one({"slug": slug, **fields})).inserted_id


async def add_agent(database: Database, agent_id: str, department: Any, *tools: str, **fields: Any) -> ObjectId:  # noqa: ANN401 - any value
    """Store an agent of a department with tools."""
    rows = [{"toolName": name, "id": new_row_id()} for name in tools]
    row = {"agentId": agent_id, "department": department, "toolNames": rows, "model": "openai/gpt-4", **fields}
    return (await database["agents"].insert_one(row)).inserted_id


async def add_tool(database: Database, name: str, **fields: Any) -> None:  # noqa: ANN401 - any value
    """Store a tool, global unless said otherwise."""
    row = {"toolName": name, "isGlobal": True, "executeFunction": "input => input", "inputSchema": {"type": "object"}}
    await database["custom-tools"].insert_one(row | fields)


async def add_team(database: Database) -> ObjectId:
    """The story department with a head, two specialists and two tools."""
    department = await add_department(database)
    await add_agent(database, "head-001", department, isDepartmentHead=True)
    await add_agent(database, "zoe-001", department, "wordCount", "outline")
    await add_agent(database, "adam-001", department, "wordCount")
    await add_tool(database, "wordCount")
    await add_tool(database, "outline")
    return department


async def test_fifty_loads_at_once_are_one_query_of_each_kind(
    database: Database, loader: DefinitionLoader, finds: Finds
) -> None:
    await add_team(database)

    agents = await asyncio.gather(*(loader.get_agent("zoe-001") for _ in range(50)))

    assert finds.count == {"agents": 1, "departments": 1, "quality-weights": 1, "custom-tools": 1}
    assert all(agent is agents[0] for agent in agents)


async def test_a_complete_team_takes_one_query_of_each_kind(
    database: Database, loader: DefinitionLoader, finds: Finds
) -> None:
    await add_team(database)

    teams = await asyncio.gather(*(loader.get_team("story") for _ in range(50)))

    assert finds.count == {"departments": 1, "quality-weights": 1, "agents": 1, "custom-tools": 1}
    assert teams[0].head.agent_id == "head-001"
    assert [agent.agent_id for agent in teams[0].specialists] == ["adam-001", "zoe-001"]
    assert [tool.name for tool in teams[0].specialists[1].tools] == ["wordCount", "outline"]


async def test_a_cancelled_caller_does_not_cancel_the_load_of_others(
    database: Database, loader: DefinitionLoader, finds: Finds
) -> None:
    await add_team(database)
    impatient = asyncio.create_task(loader.get_agent("zoe-001"))
    patient = [asyncio.create_task(loader.get_agent("zoe-001")) for _ in range(3)]
    await asyncio.sleep(0)

    impatient.cancel()
    loaded = await asyncio.gather(*patient)

    assert {agent.agent_id for agent in loaded} == {"zoe-001"}
    assert finds.count["agents"] == 1


async def test_a_definition_is_cached_until_the_cache_is_cleared(
    database: Database, loader: DefinitionLoader, finds: Finds
) -> None:
    await add_team(database)
    await loader.get_agent("zoe-001")
    await loader.get_team("story")
    await database["agents"].update_one({"agentId": "zoe-001"}, {"$set": {"name": "Zoe the second"}})
    before = finds.count.copy()

    remembered = await loader.get_agent("zoe-001")
    assert finds.count == before
    loader.forget_all()
    read_again = await loader.get_agent("zoe-001")
    team = await loader.get_team("story")

    assert (remembered.name, read_again.name, team.specialists[1].name) == ("zoe-001", *["Zoe the second"] * 2)


@pytest.mark.parametrize("ttl_seconds", [0, 0.05])
async def test_a_definition_outlives_its_time_by_nothing(database: Database, ttl_seconds: float) -> None:
    await add_team(database)
    loader = DefinitionLoader(database, ttl_seconds=ttl_seconds)
    await loader.get_agent("zoe-001")
    await database["agents"].update_one({"agentId": "zoe-001"}, {"$set": {"name": "Zoe the second"}})

    async def is_new() -> bool:
        return (await loader.get_agent("zoe-001")).name == "Zoe the second"

    await wait_until(is_new, seconds=2)


async def test_a_failure_is_not_remembered(database: Database, loader: DefinitionLoader) -> None:
    with pytest.raises(AgentNotFound):
        await loader.get_agent("zoe-001")
    with pytest.raises(DepartmentNotFound):
        await loader.get_team("story")

    await add_team(database)

    assert (await loader.get_agent("zoe-001")).agent_id == "zoe-001"
    assert (await loader.get_team("story")).department.slug == "story"


@pytest.mark.slow
async def test_definitions_that_cannot_run_raise_a_specific_error(database: Database, loader: DefinitionLoader) -> None:
    open_one = await add_department(database, "open")
    closed = await add_department(database, "closed", isActive=False)
    await add_agent(database, "off-001", open_one, isActive=False)
    await add_agent(database, "closed-001", closed, isDepartmentHead=True)
    await add_agent(database, "stray-001", None)
    await add_agent(database, "dangling-001", ObjectId())
    await add_agent(database, "head-off-001", open_one, isDepartmentHead=True, isActive=False)

    for agent_id, error in {
        "unknown-001": AgentNotFound,
        "off-001": AgentInactive,
        "closed-001": DepartmentInactive,
        "stray-001": AgentWithoutDepartment,
        "dangling-001": AgentWithoutDepartment,
    }.items():
        with pytest.raises(error, match=r"closed" if error is DepartmentInactive else agent_id):
            await loader.get_agent(agent_id)
    for slug, error in {
        "nowhere": DepartmentNotFound,
        "closed": DepartmentInactive,
        "open": DepartmentWithoutHead,
    }.items():
        with pytest.raises(error, match=slug):
            await loader.get_team(slug)


@pytest.mark.slow
async def test_inactive_specialists_stay_at_home(database: Database, loader: DefinitionLoader) -> None:
    await add_team(database)
    await database["agents"].update_one({"agentId": "adam-001"}, {"$set": {"isActive": False}})

    team = await loader.get_team("story")

    assert [agent.agent_id for agent in team.specialists] == ["zoe-001"]


async def test_an_agent_is_granted_the_tools_that_are_active_and_offered_to_its_department_once_each(
    database: Database, loader: DefinitionLoader
) -> None:
    department, other = await add_department(database), await add_department(database, "audio")
    await add_tool(database, "everywhere")
    await add_tool(database, "ours", isGlobal=False, departments=[other, department])
    await add_tool(database, "theirs", isGlobal=False, departments=[other])
    await add_tool(database, "nobodys", isGlobal=False, departments=None)
    await add_tool(database, "off", isActive=False)
    names = ("ours", "everywhere", "theirs", "nobodys", "off", "unheardOf", "ours")
    await add_agent(database, "zoe-001", department, *names)

    agent = await loader.get_agent("zoe-001")

    assert [tool.name for tool in agent.tools] == ["ours", "everywhere"]


async def test_a_definition_fills_in_what_its_document_leaves_out(database: Database, loader: DefinitionLoader) -> None:
    department = await add_department(database, defaultModel="openai/gpt-4-turbo", maxAgentSteps=7)
    await add_agent(database, "head-001", department, isDepartmentHead=True, requiresReview=True, maxAgentSteps=500.0)
    await database["agents"].insert_one({"agentId": "bare-001", "department": department, "skills": None})

    head, bare = await loader.get_agent("head-001"), await loader.get_agent("bare-001")

    assert (head.requires_review, head.max_steps) == (False, 100)
    assert (bare.name, bare.requires_review, bare.max_steps, bare.quality_threshold) == ("bare-001", True, 7, 80)
    assert (bare.tools, bare.skills, bare.specialization) == ((), (), None)
    assert bare.department.name == "story"
    assert bare.model == "openai/gpt-4-turbo"


@pytest.mark.parametrize(
    ("collection", "foreign", "field"),
    [
        ("agents", {"agentId": "zoe-002", "maxAgentSteps": "many"}, "maxAgentSteps"),
        ("agents", {"agentId": "zoe-003", "qualityThreshold": [80]}, "qualityThreshold"),
        ("agents", {"agentId": "zoe-004", "maxAgentSteps": float("inf")}, "maxAgentSteps"),
        ("agents", {"agentId": "", "isActive": True}, "agentId"),
        ("agents", {"isActive": True}, "agentId"),
        ("custom-tools", {"toolName": "outline", "inputSchema": "none"}, "inputSchema"),
    ],
)
async def test_a_foreign_document_is_skipped_with_a_warning_that_names_it(
    database: Database, loader: DefinitionLoader, collection: str, foreign: Raw, field: str
) -> None:
    department = await add_team(database)
    if "toolName" in foreign:
        await database[collection].delete_one({"toolName": foreign["toolName"]})
    stored = await database[collection].insert_one({**foreign, "department": department})

    with capture_logs() as lines:
        team = await loader.get_team("story")

    assert [agent.agent_id for agent in team.specialists] == ["adam-001", "zoe-001"]
    (warning,) = [line for line in lines if line["event"] == "foreign-document-skipped"]
    assert (warning["log_level"], warning["collection"]) == ("warning", collection)
    assert warning["id"] == str(stored.inserted_id)
    assert warning["problem"].startswith(field)


async def test_reading_a_damaged_document_names_its_invalid_field(database: Database, loader: DefinitionLoader) -> None:
    await add_department(database, "broken", priority="first")
    await add_agent(database, "broken-001", {"not": "an id"})

    with pytest.raises(StoredDocumentInvalid, match="department 'broken' is invalid: priority"):
        await loader.get_team("broken")
    with pytest.raises(StoredDocumentInvalid, match="agent 'broken-001' is invalid: department"):
        await loader.get_agent("broken-001")


async def test_a_large_number_in_a_tool_s_schema_is_a_plain_one_whatever_width_it_is_stored_in(
    database: Database, loader: DefinitionLoader
) -> None:
    department = await add_department(database)
    await add_agent(database, "zoe-001", department, "wordCount")
    limits = {"minimum": Int64(0), "maximum": 1_000_000_000_000}
    await add_tool(database, "wordCount", inputSchema={"type": "object", "properties": {"count": limits}})

    schema = (await loader.get_agent("zoe-001")).tools[0].input_schema

    assert [type(one) for one in schema["properties"]["count"].values()] == [int, int]


async def test_a_write_is_in_use_at_once_in_the_process_that_made_it(
    database: Database, warm_sandbox: ToolSandbox
) -> None:
    await insert_missing_seeds(database)
    loader = DefinitionLoader(database, ttl_seconds=300)
    editor = CatalogEditor(database, ToolChecker(warm_sandbox), KnownModels(frozenset()), on_write=loader.forget_all)
    before = await loader.get_agent("plot-specialist-001")

    await editor.update_agent("plot-specialist-001", AgentUpdate.model_validate({"name": "Plotter"}), None, SERVICE)

    assert before.name != "Plotter"
    assert (await loader.get_agent("plot-specialist-001")).name == "Plotter"
