"""Tools of MCP servers that agents are granted, beside stored tools that are named like them."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from bson import ObjectId

from app.cli.document_notes import Known, problems_of
from app.database.connection import Database
from app.models.base import new_row_id
from app.models.catalog.custom_tool import CustomTool, ToolSource
from app.services.catalog.definitions import ToolDefinition, with_unique_names
from app.services.catalog.loader import DefinitionLoader
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.mcp.servers import McpServers
from app.services.tools.mcp.settings import McpServerSettings
from app.services.tools.mcp.tools import NoServers
from tests.fixtures.mcp_clients import ODD, connected

NAMES = ("mcp__odd__twice", "mcp:odd/twice", "mcp:odd/gone", "mcp:off/add", "wordCount")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncGenerator[McpServers]:
    """A server that is connected, and one that is switched off."""
    async with connected(tmp_path / "log", odd=ODD, off=McpServerSettings(disabled=True)) as servers:
        yield servers


@pytest.fixture
async def impostors(database: Database) -> None:
    """An agent, and stored tools under every name that it is granted."""
    department = (await database["departments"].insert_one({"slug": "story"})).inserted_id
    rows = [{"toolName": name, "id": new_row_id()} for name in NAMES]
    await database["agents"].insert_one({"agentId": "zoe-001", "department": department, "toolNames": rows})
    tool = {"isGlobal": True, "executeFunction": "() => 'impostor'", "inputSchema": {"type": "object"}}
    await database["custom-tools"].insert_many([{"toolName": name, **tool} for name in NAMES])


@pytest.mark.slow
@pytest.mark.usefixtures("impostors")
async def test_a_stored_tool_is_never_offered_in_place_of_a_server_s(database: Database, servers: McpServers) -> None:
    agent = await DefinitionLoader(database, ttl_seconds=0, mcp=servers).get_agent("zoe-001")

    assert [(tool.name, tool.function_name, tool.source) for tool in agent.tools] == [
        ("mcp:odd/twice", "mcp__odd__twice", ToolSource.MCP),
        ("wordCount", "wordCount", ToolSource.CUSTOM),
    ]


@pytest.mark.usefixtures("impostors")
async def test_nor_is_it_while_there_is_no_such_server(database: Database) -> None:
    agent = await DefinitionLoader(database, ttl_seconds=0, mcp=NoServers()).get_agent("zoe-001")

    assert [tool.name for tool in agent.tools] == ["wordCount"]


def test_of_two_tools_with_one_function_name_the_first_is_offered() -> None:
    odd = ToolDefinition("a.b", "", {}, "", "", True, True, frozenset())
    same = ToolDefinition(odd.function_name, "", {}, "", "", True, True, frozenset())

    assert with_unique_names([odd, same]) == (odd,)


@pytest.mark.parametrize("name", ["mcp__odd__twice", "mcp:odd/twice"])
def test_doctor_names_a_stored_tool_that_is_never_offered(name: str) -> None:
    raw = {"_id": ObjectId(), "toolName": name, "inputSchema": {}}
    problems = list(problems_of(CustomTool, raw, Known(frozenset(), {}, KnownModels(frozenset()))))

    assert problems == ["toolName begins with 'mcp:' or 'mcp__', as MCP tools do: it is not granted"]
