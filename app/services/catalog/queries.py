"""Queries of the catalog: pages of lists and single entries, with relations as natural keys."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.etags import etag_of
from app.database.transactions import Session
from app.errors import AppError, NotFound
from app.kit.json_values import JsonObject
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import ApiModel, Entry, Page
from app.models.base import PayloadDocument, Relation
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.services.catalog.loader import AgentNotFound, DepartmentNotFound, parsed, valid
from app.services.catalog.output_schemas import (
    AgentRead,
    CustomToolRead,
    CustomToolSummary,
    DepartmentDefaults,
    DepartmentRead,
)

DocumentType = TypeVar("DocumentType", bound=PayloadDocument)


class CustomToolNotFound(NotFound):
    """No custom tool has this name."""

    code = "custom-tool-not-found"

    def __init__(self, tool_name: str) -> None:
        super().__init__(f"There is no custom tool {tool_name[:100]!r}.")


@dataclass(frozen=True)
class AgentFilter:
    """The agents to list; `q` searches ids, names, descriptions and specializations."""

    department: str | None = None
    is_active: bool | None = None
    is_department_head: bool | None = None
    q: str | None = None


@dataclass(frozen=True)
class CatalogQueries:
    """Reads departments, agents and custom tools from the database."""

    database: Database

    async def list_departments(self, page: PageRequest) -> Page:
        """Return a page of departments."""
        return await self._list(Department, {}, page, DepartmentRead.of)

    async def get_department(self, slug: str) -> Entry[DepartmentRead]:
        """Return one department.

        Raises:
            DepartmentNotFound: no department has this slug.
        """
        return department_entry(await self._get(Department, {"slug": slug}, DepartmentNotFound(slug)))

    async def list_agents(self, wanted: AgentFilter, page: PageRequest) -> Page:
        """Return a page of the agents that match a filter; an unknown department has none."""
        selector = await self._agent_selector(wanted)
        departments = await read_departments(self.database)
        return await self._list(Agent, selector, page, lambda agent: AgentRead.of(agent, departments))

    async def get_agent(self, agent_id: str) -> Entry[AgentRead]:
        """Return one agent.

        Raises:
            AgentNotFound: no agent has this id.
        """
        raw = await self._get(Agent, {"agentId": agent_id}, AgentNotFound(agent_id))
        return agent_entry(raw, await read_departments(self.database))

    async def list_custom_tools(self, page: PageRequest) -> Page:
        """Return a page of custom tools, without their code."""
        departments = await read_departments(self.database)
        return await self._list(CustomTool, {}, page, lambda tool: CustomToolSummary.of(tool, departments))

    async def get_custom_tool(self, tool_name: str, *, with_code: bool) -> Entry[CustomToolRead]:
        """Return one custom tool.

        Raises:
            CustomToolNotFound: no tool has this name.
        """
        raw = await self._get(CustomTool, {"toolName": tool_name}, CustomToolNotFound(tool_name))
        return custom_tool_entry(raw, await read_departments(self.database), with_code=with_code)

    async def _list(
        self, document: type[DocumentType], selector: Raw, page: PageRequest, shape: Callable[[DocumentType], ApiModel]
    ) -> Page:
        found = await read_page(collection_of(self.database, document), selector, page)
        items = [shape(item) for raw in found.raws if (item := parsed(document, raw))]
        return Page(items, found.total, found.next_cursor)

    async def _get(self, document: type[DocumentType], selector: Raw, missing: AppError) -> Raw:
        """Return a valid stored document.

        Raises:
            StoredDocumentInvalid: a stored field has an invalid value.
        """
        raw = await collection_of(self.database, document).find_one(selector)
        if raw is None:
            raise missing
        [key] = selector.values()
        valid(document, raw, key)
        return raw

    async def _find(self, document: type[DocumentType], selector: Raw) -> DocumentType | None:
        raw = await collection_of(self.database, document).find_one(selector)
        return parsed(document, raw) if raw else None

    async def _agent_selector(self, wanted: AgentFilter) -> JsonObject:
        selector: JsonObject = {}
        if wanted.department is not None:
            department = await self._find(Department, {"slug": wanted.department})
            selector["department"] = department.id if department else None
            if department is None:
                selector["_id"] = None
        if wanted.is_active is not None:
            # A missing or null key means the default, which is active.
            selector["isActive"] = {"$ne": False} if wanted.is_active else False
        if wanted.is_department_head is not None:
            selector["isDepartmentHead"] = True if wanted.is_department_head else {"$ne": True}
        if wanted.q:
            # MongoDB refuses NUL in a pattern, but accepts its escape sequence.
            pattern = {"$regex": re.escape(wanted.q).replace("\0", r"\x00"), "$options": "i"}
            selector["$or"] = [{name: pattern} for name in ("agentId", "name", "description", "specialization")]
        return selector


def department_entry(raw: Raw) -> Entry[DepartmentRead]:
    """Return a stored department in the shape of the API."""
    return Entry(DepartmentRead.of(Department.model_validate(raw)), etag_of(raw))


def agent_entry(raw: Raw, departments: Mapping[Relation, DepartmentDefaults]) -> Entry[AgentRead]:
    """Return a stored agent in the shape of the API."""
    return Entry(AgentRead.of(Agent.model_validate(raw), departments), etag_of(raw))


def custom_tool_entry(
    raw: Raw, departments: Mapping[Relation, DepartmentDefaults], *, with_code: bool
) -> Entry[CustomToolRead]:
    """Return a stored custom tool in the shape of the API."""
    tool = CustomTool.model_validate(raw)
    return Entry(CustomToolRead.with_code(tool, departments, shown=with_code), etag_of(raw))


async def read_departments(database: Database, session: Session | None = None) -> dict[Relation, DepartmentDefaults]:
    """Read the slug and the defaults of every department."""
    fields = dict.fromkeys(("slug", "defaultModel", "maxAgentSteps"), 1)
    found = collection_of(database, Department).find({}, fields, session=session)
    return {raw["_id"]: DepartmentDefaults.of(one) async for raw in found if (one := parsed(Department, raw))}
