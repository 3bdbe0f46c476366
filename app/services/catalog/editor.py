"""Writing the catalogue: rules that hold whoever else writes at the same time."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Raw
from app.errors import InvalidInput
from app.kit.json_values import JsonObject
from app.models.agent import Agent
from app.models.base import new_row_id
from app.models.custom_tool import CustomTool
from app.models.department import Department
from app.models.quality_weights import DEFAULT_SLUG, QualityWeights
from app.services.catalog.etags import EditedMeanwhile
from app.services.catalog.input_schemas import (
    AgentCreate,
    AgentUpdate,
    CustomToolCreate,
    CustomToolUpdate,
    DepartmentCreate,
    DepartmentUpdate,
)
from app.services.catalog.loader import AgentNotFound, DepartmentNotFound
from app.services.catalog.queries import CustomToolNotFound
from app.services.catalog.tool_checker import ToolChecker
from app.services.catalog.tool_rules import refuse_builtin, require_risen_version
from app.services.catalog.writer import CatalogWriteConflict, CatalogWriter
from app.services.tools.mcp.tools import McpTools, NoServers
from app.services.tools.names import MCP_PREFIX

MAX_NAMED = 10
CHECKED_TOGETHER = frozenset({"executeFunction", "inputSchema", "exampleInputs"})


class DepartmentHasAgents(CatalogWriteConflict):
    """A department that has agents cannot go."""

    code = "department-has-agents"

    def __init__(self, department: str, agents: list[str]) -> None:
        super().__init__(f"The department {department!r} still has agents: {', '.join(agents)}.")


class DepartmentHasTools(CatalogWriteConflict):
    """A department that tools are offered to cannot be deleted."""

    code = "department-has-tools"

    def __init__(self, department: str, tools: list[str]) -> None:
        super().__init__(f"Tools are offered to the department {department!r}: {', '.join(tools)}.")


class ToolInUse(CatalogWriteConflict):
    """A tool that agents name cannot go, or take another name."""

    code = "custom-tool-in-use"

    def __init__(self, tool_name: str, agents: list[str]) -> None:
        super().__init__(f"The tool {tool_name!r} is named by agents: {', '.join(agents)}.")


@dataclass(frozen=True)
class CatalogEditor(CatalogWriter):
    """Creates, changes and deletes departments, agents and custom tools; gives back the raw document."""

    tools: ToolChecker
    allowed_models: frozenset[str]
    mcp: McpTools = field(default_factory=NoServers)

    async def create_department(self, wanted: DepartmentCreate) -> Raw:
        """A new department, scored with the default weights whoever had its slug before.

        Raises:
            InvalidInput, KeyTaken
        """
        self._check_model(wanted.default_model, "defaultModel")

        async def prepare(session: AsyncClientSession) -> JsonObject:
            await self._drop_weights(wanted.slug, session)
            return wanted.model_dump(by_alias=True)

        return await self.insert(Department, prepare, "slug")

    async def update_department(self, slug: str, patch: DepartmentUpdate, if_match: str | None) -> Raw:
        """A changed department; its quality weights follow its slug.

        Raises:
            DepartmentNotFound, EditedMeanwhile, InvalidInput, KeyTaken
        """
        changes = patch.given()
        self._check_model(changes.get("defaultModel"), "defaultModel")

        async def prepare(session: AsyncClientSession, _: Raw) -> JsonObject:
            if changes.get("slug", slug) != slug and slug != DEFAULT_SLUG:
                await self._drop_weights(changes["slug"], session)
                await self._weights.update_one({"slug": slug}, {"$set": {"slug": changes["slug"]}}, session=session)
            return changes

        return await self.update(Department, {"slug": slug}, DepartmentNotFound(slug), prepare, if_match)

    async def delete_department(self, slug: str, if_match: str | None) -> None:
        """Delete a department that has no agents and no tools, and its quality weights.

        Raises:
            DepartmentNotFound, DepartmentHasAgents, DepartmentHasTools, EditedMeanwhile
        """

        async def refuse(session: AsyncClientSession, raw: Raw) -> None:
            agents = await self._agent_ids({"department": raw["_id"]}, session)
            if agents:
                raise DepartmentHasAgents(slug, agents)
            if tools := await self._tool_names({"departments": raw["_id"]}, session):
                raise DepartmentHasTools(slug, tools)
            await self._drop_weights(slug, session)

        await self.delete(Department, {"slug": slug}, DepartmentNotFound(slug), refuse, if_match)

    async def create_agent(self, wanted: AgentCreate) -> Raw:
        """A new agent.

        Raises:
            InvalidInput, KeyTaken, DepartmentHasHead
        """
        self._check_model(wanted.model, "model")

        async def prepare(session: AsyncClientSession) -> JsonObject:
            fields = await self._agent_fields(wanted.model_dump(by_alias=True), {}, session)
            await self.refuse_second_head(fields, None, wanted.department, session)
            return fields

        return await self.insert(Agent, prepare, "agentId")

    async def update_agent(self, agent_id: str, patch: AgentUpdate, if_match: str | None) -> Raw:
        """A changed agent.

        Raises:
            AgentNotFound, EditedMeanwhile, InvalidInput, KeyTaken, DepartmentHasHead
        """
        given = patch.given()
        self._check_model(given.get("model"), "model")

        async def prepare(session: AsyncClientSession, raw: Raw) -> JsonObject:
            changes = await self._agent_fields(given, raw, session)
            merged = raw | changes
            if merged.get("isDepartmentHead") is True:
                changes["requiresReview"] = False
            if changes.get("isDepartmentHead") is True and merged.get("department") is None:
                raise InvalidInput.of_field("department", "is unset, and a head is the head of one")
            await self.refuse_second_head(merged, raw["_id"], given.get("department"), session)
            return changes

        return await self.update(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), prepare, if_match)

    async def delete_agent(self, agent_id: str, if_match: str | None) -> None:
        """Delete an agent; its executions stay.

        Raises:
            AgentNotFound, EditedMeanwhile
        """

        async def refuse(_: AsyncClientSession, __: Raw) -> None:
            return None

        await self.delete(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), refuse, if_match)

    async def create_custom_tool(self, wanted: CustomToolCreate) -> Raw:
        """A new custom tool, whose code compiles, whose schema is one, and whose examples pass.

        Raises:
            InvalidInput, KeyTaken
        """
        await self.tools.check(wanted.execute_function, wanted.input_schema, wanted.example_inputs)

        async def prepare(session: AsyncClientSession) -> JsonObject:
            return await self._tool_fields(wanted.model_dump(by_alias=True), session)

        return await self.insert(CustomTool, prepare, "toolName")

    async def update_custom_tool(self, tool_name: str, patch: CustomToolUpdate, if_match: str | None) -> Raw:
        """A changed custom tool, checked as a whole; its version rises with its code and schema.

        Raises:
            CustomToolNotFound, EditedMeanwhile, InvalidInput, KeyTaken, ToolInUse, ToolIsBuiltin
        """
        given = patch.given()
        checked = await self._check_changed_tool(tool_name, given)

        async def prepare(session: AsyncClientSession, raw: Raw) -> JsonObject:
            refuse_builtin(raw)
            if checked is not None and any(raw.get(name) != value for name, value in checked.items()):
                raise EditedMeanwhile
            changes = await self._tool_fields(given, session)
            if "inputSchema" in given:
                changes["inputSchema"] = merge_patch(raw.get("inputSchema"), given["inputSchema"])
            if "version" in given:
                require_risen_version({"inputSchema": {}, **raw}, {"inputSchema": {}, **raw} | changes)
            if changes.get("toolName", tool_name) != tool_name:
                await self._refuse_if_named(tool_name, session)
            return changes

        missing = CustomToolNotFound(tool_name)
        return await self.update(CustomTool, {"toolName": tool_name}, missing, prepare, if_match)

    async def _check_changed_tool(self, tool_name: str, given: JsonObject) -> Raw | None:
        """Check a tool as it would be, before the transaction: examples may run for seconds.

        Gives the fields it was checked with as they are stored now, `None` when nothing about them changes.
        """
        if not given.keys() & CHECKED_TOGETHER:
            return None
        raw = await self.collection(CustomTool).find_one({"toolName": tool_name})
        if raw is None:
            raise CustomToolNotFound(tool_name)
        refuse_builtin(raw)
        schema = merge_patch(raw.get("inputSchema"), given.get("inputSchema", {}))
        code = given.get("executeFunction", raw.get("executeFunction") or "")
        stored = {"inputSchema": {}, **raw}
        require_risen_version(stored, stored | given | {"executeFunction": code, "inputSchema": schema})
        await self.tools.check(code, schema, given.get("exampleInputs", stored_examples(raw)))
        return {name: raw.get(name) for name in (*CHECKED_TOGETHER, "version")}

    async def delete_custom_tool(self, tool_name: str, if_match: str | None) -> None:
        """Delete a custom tool that no agent names.

        Raises:
            CustomToolNotFound, ToolInUse, ToolIsBuiltin, EditedMeanwhile
        """

        async def refuse(session: AsyncClientSession, raw: Raw) -> None:
            refuse_builtin(raw)
            await self._refuse_if_named(tool_name, session)

        await self.delete(CustomTool, {"toolName": tool_name}, CustomToolNotFound(tool_name), refuse, if_match)

    async def _drop_weights(self, slug: str, session: AsyncClientSession) -> None:
        if slug != DEFAULT_SLUG:
            await self._weights.delete_one({"slug": slug}, session=session)

    @property
    def _weights(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[QualityWeights.get_collection_name()]

    def _check_model(self, model: str | None, field: str) -> None:
        if model is not None and not any(fnmatchcase(model, name) for name in self.allowed_models):
            allowed = ", ".join(sorted(self.allowed_models))
            raise InvalidInput.of_field(field, f"must be one of the allowed models: {allowed}")

    async def _agent_fields(self, given: JsonObject, stored: Raw, session: AsyncClientSession) -> JsonObject:
        """An agent's fields as stored: relations as ids, lists as rows; what it refers to is touched."""
        fields = dict(given)
        if "department" in fields:
            fields["department"] = await self.touch(Department, "slug", fields["department"], "department", session)
        if "toolNames" in fields:
            names = list(dict.fromkeys(fields["toolNames"]))
            granted = names_in_rows(stored.get("toolNames"))
            department = fields.get("department", stored.get("department"))
            for place, name in enumerate(names):
                user = None if name in granted else Grantee(given.get("department"), department)
                await self._refer_to_tool(name, f"toolNames.{place}", user, session)
            fields["toolNames"] = [{"toolName": name, "id": new_row_id()} for name in names]
        if "skills" in fields:
            fields["skills"] = [{"skill": skill, "id": new_row_id()} for skill in fields["skills"]]
        if fields.get("isDepartmentHead") is True:
            fields["requiresReview"] = False
        return fields

    async def _refer_to_tool(
        self, name: str, path: str, new_user: "Grantee | None", session: AsyncClientSession
    ) -> None:
        """See that a granted tool exists, and that an agent to whom it is newly granted could use it."""
        if name.startswith(MCP_PREFIX):
            if problem := self.mcp.problem_with(name):
                raise InvalidInput.of_field(path, f"{name!r} does not exist: {problem}")
            return
        fields = ["isGlobal", "departments"]
        raw = await self.touch_fields(CustomTool, {"toolName": name}, fields, path, session)
        if new_user is None or raw.get("isGlobal") is True or new_user.department in (raw.get("departments") or ()):
            return
        slug = new_user.slug or await self.slug_of(new_user.department, session)
        message = f"{name!r} is not offered to the department {slug!r}: add it to the tool's departments"
        raise InvalidInput.of_field(path, f"{message}, or make the tool global")

    async def _tool_fields(self, given: JsonObject, session: AsyncClientSession) -> JsonObject:
        """A tool's fields as stored."""
        fields = dict(given)
        if "departments" in fields:
            slugs: list[str] = list(dict.fromkeys(fields["departments"]))
            fields["departments"] = [
                await self.touch(Department, "slug", slug, f"departments.{place}", session)
                for place, slug in enumerate(slugs)
            ]
        if "exampleInputs" in fields:
            fields["exampleInputs"] = [{"example": one, "id": new_row_id()} for one in fields["exampleInputs"]]
        return fields

    async def _agent_ids(self, selector: Raw, session: AsyncClientSession) -> list[str]:
        found = self.collection(Agent).find(selector, {"agentId": 1}, session=session).limit(MAX_NAMED)
        return [str(raw.get("agentId")) async for raw in found]

    async def _tool_names(self, selector: Raw, session: AsyncClientSession) -> list[str]:
        found = self.collection(CustomTool).find(selector, {"toolName": 1}, session=session).limit(MAX_NAMED)
        return [str(raw.get("toolName")) async for raw in found]

    async def _refuse_if_named(self, tool_name: str, session: AsyncClientSession) -> None:
        agents = await self._agent_ids({"toolNames.toolName": tool_name}, session)
        if agents:
            raise ToolInUse(tool_name, agents)


@dataclass(frozen=True)
class Grantee:
    """Whom a tool is granted to: the department of the agent, by its id, and by its slug where that is known."""

    slug: str | None
    department: Any


def names_in_rows(rows: Any) -> set[str]:  # noqa: ANN401 - any stored value
    """The tools that a stored agent is granted already; what is no row of an array is none."""
    if not isinstance(rows, list):
        return set()
    return {row["toolName"] for row in rows if isinstance(row, dict) and isinstance(row.get("toolName"), str)}


def stored_examples(raw: Raw) -> list[Any]:
    """The examples of a stored tool; what is no row of an array is none."""
    rows = raw.get("exampleInputs")
    return [row.get("example") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def merge_patch(current: object, patch: JsonObject) -> JsonObject:
    """RFC 7396: `null` removes, objects merge, all else replaces; what is no object counts as an empty one."""
    merged = dict(cast("JsonObject", current)) if isinstance(current, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge_patch(merged.get(name), value)
        else:
            merged[name] = value
    return merged
