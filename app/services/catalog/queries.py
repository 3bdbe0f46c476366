"""Reading the catalogue: lists in pages, single entries, relations by their natural keys."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from app.database.connection import Database, Raw
from app.errors import AppError, NotFound
from app.kit.json_values import JsonObject
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import ApiModel, Entry, Page
from app.models.agent import Agent
from app.models.base import PayloadDocument, Relation
from app.models.custom_tool import CustomTool
from app.models.department import Department
from app.services.catalog.etags import etag_of
from app.services.catalog.loader import AgentNotFound, DepartmentNotFound, parsed, valid
from app.services.catalog.output_schemas import AgentRead, CustomToolRead, DepartmentRead

DocumentType = TypeVar("DocumentType", bound=PayloadDocument)


class CustomToolNotFound(NotFound):
    """No custom tool has this name."""

    code = "custom-tool-not-found"

    def __init__(self, tool_name: str) -> None:
        super().__init__(f"There is no custom tool {tool_name[:100]!r}.")


@dataclass(frozen=True)
class AgentFilter:
    """Which agents to list; `q` searches ids, names and descriptions."""

    department: str | None = None
    is_active: bool | None = None
    is_department_head: bool | None = None
    q: str | None = None


@dataclass(frozen=True)
class CatalogQueries:
    """The catalogue as it stands in the database."""

    database: Database

    async def list_departments(self, page: PageRequest) -> Page:
        """Departments, by priority unless sorted otherwise."""
        return await self._list(Department, {}, page, DepartmentRead.of)

    async def get_department(self, slug: str) -> Entry[DepartmentRead]:
        """One department.

        Raises:
            DepartmentNotFound: no department has this slug.
        """
        return await self.department_entry(await self._get(Department, {"slug": slug}, DepartmentNotFound(slug)))

    async def department_entry(self, raw: Raw) -> Entry[DepartmentRead]:
        """The entry behind a stored document."""
        return Entry(DepartmentRead.of(Department.model_validate(raw)), etag_of(raw))

    async def list_agents(self, wanted: AgentFilter, page: PageRequest) -> Page:
        """Agents that match a filter; those of an unknown department are none."""
        selector = await self._agent_selector(wanted)
        slugs = await self._slugs()
        return await self._list(Agent, selector, page, lambda agent: AgentRead.of(agent, slugs))

    async def get_agent(self, agent_id: str) -> Entry[AgentRead]:
        """One agent.

        Raises:
            AgentNotFound: no agent has this id.
        """
        return await self.agent_entry(await self._get(Agent, {"agentId": agent_id}, AgentNotFound(agent_id)))

    async def agent_entry(self, raw: Raw) -> Entry[AgentRead]:
        """The entry behind a stored document."""
        return Entry(AgentRead.of(Agent.model_validate(raw), await self._slugs()), etag_of(raw))

    async def list_custom_tools(self, page: PageRequest, *, with_code: bool) -> Page:
        """Custom tools, with their code for admins only."""
        slugs = await self._slugs()
        return await self._list(CustomTool, {}, page, lambda tool: CustomToolRead.of(tool, slugs, with_code=with_code))

    async def get_custom_tool(self, tool_name: str, *, with_code: bool) -> Entry[CustomToolRead]:
        """One custom tool.

        Raises:
            CustomToolNotFound: no tool has this name.
        """
        raw = await self._get(CustomTool, {"toolName": tool_name}, CustomToolNotFound(tool_name))
        return await self.custom_tool_entry(raw, with_code=with_code)

    async def custom_tool_entry(self, raw: Raw, *, with_code: bool) -> Entry[CustomToolRead]:
        """The entry behind a stored document."""
        tool = CustomTool.model_validate(raw)
        return Entry(CustomToolRead.of(tool, await self._slugs(), with_code=with_code), etag_of(raw))

    async def _list(
        self, document: type[DocumentType], selector: Raw, page: PageRequest, shape: Callable[[DocumentType], ApiModel]
    ) -> Page:
        found = await read_page(self.database[document.get_collection_name()], selector, page)
        items = [shape(one) for raw in found.raws if (one := parsed(document, raw))]
        return Page(items, found.total, found.next_cursor)

    async def _get(self, document: type[DocumentType], selector: Raw, missing: AppError) -> Raw:
        """A raw document that can be used.

        Raises:
            StoredDocumentInvalid: it exists, and a field is not what the service stores there.
        """
        raw = await self.database[document.get_collection_name()].find_one(selector)
        if raw is None:
            raise missing
        [key] = selector.values()
        valid(document, raw, key)
        return raw

    async def _find(self, document: type[DocumentType], selector: Raw) -> DocumentType | None:
        raw = await self.database[document.get_collection_name()].find_one(selector)
        return parsed(document, raw) if raw else None

    async def _slugs(self) -> dict[Relation, str]:
        found = self.database[Department.get_collection_name()].find({}, {"slug": 1})
        return {raw["_id"]: raw["slug"] async for raw in found if isinstance(raw.get("slug"), str)}

    async def _agent_selector(self, wanted: AgentFilter) -> JsonObject:
        selector: JsonObject = {}
        if wanted.department is not None:
            department = await self._find(Department, {"slug": wanted.department})
            selector["department"] = department.id if department else None
            if department is None:
                selector["_id"] = None
        if wanted.is_active is not None:
            # A key that is missing or null means the default, which is active.
            selector["isActive"] = {"$ne": False} if wanted.is_active else False
        if wanted.is_department_head is not None:
            selector["isDepartmentHead"] = True if wanted.is_department_head else {"$ne": True}
        if wanted.q:
            # MongoDB refuses a pattern with a NUL in it, and understands how PCRE writes one.
            pattern = {"$regex": re.escape(wanted.q).replace("\0", r"\x00"), "$options": "i"}
            selector["$or"] = [{name: pattern} for name in ("agentId", "name", "description", "specialization")]
        return selector
