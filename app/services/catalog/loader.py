"""The loader of definitions for runs: cached for a while, with one query at a time for the same key.

An agent is loaded with its department and tools; a team takes one query for all its agents and one for all their
tools.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

import structlog
from async_lru import alru_cache
from beanie import Document
from pydantic import ValidationError

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.errors import AppError, NotFound
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import JsonObject
from app.models.catalog.agent import Agent
from app.models.catalog.catalog_document import CatalogState
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import DEFAULT_SLUG, QualityWeights
from app.models.stored_document import StoredDocumentInvalid
from app.services.catalog.definitions import AgentDefinition, DepartmentDefinition, Team, ToolDefinition
from app.services.tools.mcp.tools import McpTools, NoServers
from app.services.tools.names import MCP_PREFIX
from app.services.tools.schema_weight import InvalidSchema, weigh_schema

MAX_CACHED = 4096

DocumentType = TypeVar("DocumentType", bound=Document)

KINDS: dict[type[Document], str] = {Agent: "agent", Department: "department", CustomTool: "custom tool"}

log = structlog.get_logger(__name__)


class AgentNotFound(NotFound):
    """No agent has this id."""

    code = "agent-not-found"

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"There is no agent {agent_id[:100]!r}.")


class DepartmentNotFound(NotFound):
    """No department has this slug."""

    code = "department-not-found"

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is no department {slug[:100]!r}.")


class CatalogConflict(AppError):
    """The entry exists but cannot run."""

    status = HTTPStatus.CONFLICT


class AgentInactive(CatalogConflict):
    """The agent is inactive."""

    code = "agent-inactive"

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"The agent {agent_id!r} is inactive. Set its isActive to true to run it.")


class DepartmentInactive(CatalogConflict):
    """The department is inactive."""

    code = "department-inactive"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The department {slug!r} is inactive. Set its isActive to true to run it.")


class AgentUnpublished(CatalogConflict):
    """The agent is a draft in the CMS."""

    code = "agent-unpublished"

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"The agent {agent_id!r} is an unpublished draft. Publish it in the CMS to run it.")


class AgentTrashed(CatalogConflict):
    """The agent is in the trash of the CMS."""

    code = "agent-trashed"

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"The agent {agent_id!r} is in the trash of the CMS. Restore it there to run it.")


class DepartmentUnpublished(CatalogConflict):
    """The department is a draft in the CMS."""

    code = "department-unpublished"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The department {slug!r} is an unpublished draft. Publish it in the CMS to run it.")


class DepartmentTrashed(CatalogConflict):
    """The department is in the trash of the CMS."""

    code = "department-trashed"

    def __init__(self, slug: str) -> None:
        super().__init__(f"The department {slug!r} is in the trash of the CMS. Restore it there to run it.")


AGENT_CONFLICTS = {
    CatalogState.INACTIVE: AgentInactive,
    CatalogState.DRAFT: AgentUnpublished,
    CatalogState.TRASHED: AgentTrashed,
}
DEPARTMENT_CONFLICTS = {
    CatalogState.INACTIVE: DepartmentInactive,
    CatalogState.DRAFT: DepartmentUnpublished,
    CatalogState.TRASHED: DepartmentTrashed,
}


class AgentWithoutDepartment(CatalogConflict):
    """The agent's department was deleted, or never set."""

    code = "agent-without-department"

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"The agent {agent_id!r} has no department, or one that no longer exists. Set its department.")


class DepartmentWithoutHead(CatalogConflict):
    """The department has no active head."""

    code = "department-without-head"

    def __init__(self, slug: str) -> None:
        super().__init__(
            f"The department {slug!r} has no active head. Set isDepartmentHead on one of its active agents."
        )


class DefinitionLoader:
    """The cached definitions of this process, each for `ttl_seconds` at most."""

    def __init__(self, database: Database, *, ttl_seconds: float, mcp: McpTools | None = None) -> None:
        self._database = database
        self._mcp = mcp or NoServers()
        cached = alru_cache(maxsize=MAX_CACHED, ttl=ttl_seconds or 0.001)
        self._agent = cached(self._read_agent)
        self._team = cached(self._read_team)
        self._departments = cached(self._read_departments)

    async def get_agent(self, agent_id: str, *, accepted: bool = False) -> AgentDefinition:
        """Return an active agent of an active department.

        A run that was accepted earlier may use both even if they are inactive, unpublished or in the trash now.

        Raises:
            AgentNotFound, AgentWithoutDepartment, StoredDocumentInvalid
            AgentInactive, AgentUnpublished, AgentTrashed
            DepartmentInactive, DepartmentUnpublished, DepartmentTrashed
        """
        return await self._agent(agent_id, accepted)

    async def get_team(self, slug: str, *, accepted: bool = False) -> Team:
        """Return an active department with its head and active specialists.

        A run that was accepted earlier may use them even if they are inactive, unpublished or in the trash now.

        Raises:
            DepartmentNotFound, DepartmentInactive, DepartmentUnpublished, DepartmentTrashed, DepartmentWithoutHead
        """
        return await self._team(slug, accepted)

    async def list_departments(self) -> tuple[DepartmentDefinition, ...]:
        """Return all departments by priority, including inactive ones."""
        return await self._departments()

    def forget_all(self) -> None:
        """Clear the cache, so that the next run reads the stored definitions."""
        self._agent.cache_clear()
        self._team.cache_clear()
        self._departments.cache_clear()

    async def _read_agent(self, agent_id: str, accepted: bool) -> AgentDefinition:
        raw = await collection_of(self._database, Agent).find_one({"agentId": agent_id})
        if raw is None:
            raise AgentNotFound(agent_id)
        agent = valid(Agent, raw, agent_id)
        if not accepted and (conflict := AGENT_CONFLICTS.get(agent.state)):
            raise conflict(agent_id)
        department = await self._find_department({"_id": agent.department}) if agent.department else None
        if department is None:
            raise AgentWithoutDepartment(agent_id)
        if not accepted and (conflict := DEPARTMENT_CONFLICTS.get(department.state)):
            raise conflict(department.slug)
        return AgentDefinition.of(agent, department, await self._read_tools([agent]))

    async def _read_team(self, slug: str, accepted: bool) -> Team:
        department = await self._find_department({"slug": slug})
        if department is None:
            raise DepartmentNotFound(slug)
        if not accepted and (conflict := DEPARTMENT_CONFLICTS.get(department.state)):
            raise conflict(slug)
        found = collection_of(self._database, Agent).find({"department": department.id}).sort("agentId")
        members = [agent async for raw in found if (agent := parsed(Agent, raw))]
        agents = [agent for agent in members if agent.state is CatalogState.ACTIVE or accepted]
        tools = await self._read_tools(agents)
        team = [AgentDefinition.of(agent, department, tools) for agent in agents]
        head = next((member for member in team if member.is_department_head), None)
        if head is None:
            raise DepartmentWithoutHead(slug)
        active = {agent.agent_id for agent in agents if agent.state is CatalogState.ACTIVE}
        specialists = [member for member in team if not member.is_department_head]
        return Team(
            department,
            head,
            specialists=tuple(one for one in specialists if one.agent_id in active),
            inactive_specialists=tuple(one for one in specialists if one.agent_id not in active),
        )

    async def _read_departments(self) -> tuple[DepartmentDefinition, ...]:
        found = collection_of(self._database, Department).find({}).sort([("priority", 1), ("slug", 1)])
        departments = [department async for raw in found if (department := parsed(Department, raw))]
        return tuple(map(DepartmentDefinition.of, departments))

    async def _find_department(self, selector: Raw) -> DepartmentDefinition | None:
        raw = await collection_of(self._database, Department).find_one(selector)
        department = valid(Department, raw, str(raw.get("slug") or raw["_id"])) if raw else None
        return DepartmentDefinition.of(department, await self._read_weights(department)) if department else None

    async def _read_weights(self, department: Department) -> dict[str, dict[str, float]]:
        slugs = [department.slug, DEFAULT_SLUG]
        found = collection_of(self._database, QualityWeights).find({"slug": {"$in": slugs}})
        documents = [document async for raw in found if (document := parsed(QualityWeights, raw))]
        return {document.slug: document.weights for document in documents}

    async def _read_tools(self, agents: list[Agent]) -> dict[str, ToolDefinition]:
        names = sorted({name for agent in agents for name in agent.granted_tool_names})
        if not names:
            return {}
        # A stored tool with the name of an MCP server's tool never replaces that tool.
        stored = [name for name in names if not name.startswith(MCP_PREFIX)]
        found = collection_of(self._database, CustomTool).find({"toolName": {"$in": stored}})
        tools = [tool async for raw in found if (tool := parsed(CustomTool, raw))]
        served = await asyncio.gather(*(self._mcp.find(name) for name in names if name.startswith(MCP_PREFIX)))
        schemas = {tool.tool_name: tool.input_schema for tool in tools}
        schemas |= {tool.name: tool.input_schema for tool in served if tool}
        heavy = await in_check_thread(heavy_schemas, schemas)
        definitions = {tool.tool_name: ToolDefinition.of(tool) for tool in tools if tool.tool_name not in heavy}
        return definitions | {
            tool.name: ToolDefinition.of_server(tool) for tool in served if tool and tool.name not in heavy
        }


def heavy_schemas(schemas: Mapping[str, JsonObject]) -> set[str]:
    """Return the names of tools whose input schema is too expensive to compile; runs do not get them."""
    heavy: set[str] = set()
    for name, schema in schemas.items():
        try:
            weigh_schema(schema)
        except InvalidSchema as error:
            log.warning("tool-schema-refused", tool=name, problem=str(error))
            heavy.add(name)
    return heavy


def parsed(document: type[DocumentType], raw: Raw) -> DocumentType | None:
    """Parse a raw document; log a warning and return `None` if it is invalid."""
    try:
        return document.model_validate(raw)
    except ValidationError as error:
        log.warning(
            "foreign-document-skipped",
            collection=document.get_collection_name(),
            id=str(raw.get("_id")),
            problem=first_problem(error),
        )
        return None


def valid(document: type[DocumentType], raw: Raw, key: str) -> DocumentType:
    """Parse the raw document with a natural key.

    Raises:
        StoredDocumentInvalid: a stored field has an invalid value.
    """
    try:
        return document.model_validate(raw)
    except ValidationError as error:
        raise StoredDocumentInvalid.of(KINDS.get(document, "document"), key, error) from None


def problem_in(document: type[Document], raw: Raw) -> str | None:
    """Return why a raw document is invalid, or `None`."""
    try:
        document.model_validate(raw)
    except ValidationError as error:
        return first_problem(error)
    return None


def first_problem(error: ValidationError) -> str:
    """Return the first invalid field and its problem, without its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
