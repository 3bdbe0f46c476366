"""Edits of the catalog through the API, with rules that hold under concurrent writes."""

from dataclasses import dataclass, field
from typing import Any, cast

from app.database.audit_marks import Actor
from app.database.collections import Collection, collection_of
from app.database.connection import Raw
from app.database.etags import EditedMeanwhile
from app.database.transactions import Session
from app.errors import InvalidInput
from app.kit.json_values import JsonObject
from app.kit.schemas import Entry
from app.models.base import new_row_id
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import DEFAULT_SLUG, QualityWeights
from app.services.catalog.answer_schemas import check_output_schema
from app.services.catalog.input_schemas import (
    AgentCreate,
    AgentUpdate,
    CustomToolCreate,
    CustomToolUpdate,
    DepartmentCreate,
    DepartmentUpdate,
)
from app.services.catalog.loader import AgentNotFound, DepartmentNotFound
from app.services.catalog.output_schemas import AgentRead, CustomToolRead, DepartmentRead
from app.services.catalog.queries import (
    CustomToolNotFound,
    agent_entry,
    custom_tool_entry,
    department_entry,
    read_departments,
)
from app.services.catalog.tool_checker import ToolChecker
from app.services.catalog.tool_rules import refuse_builtin, require_risen_version
from app.services.catalog.writer import CatalogWriteConflict, CatalogWriter, catalog_write
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.mcp.tools import McpTools, NoServers
from app.services.tools.names import MCP_PREFIX

MAX_NAMED = 10
CHECKED_TOGETHER = frozenset({"executeFunction", "inputSchema", "exampleInputs"})


class DepartmentHasAgents(CatalogWriteConflict):
    """A department that has agents cannot be deleted."""

    code = "department-has-agents"

    def __init__(self, department: str, agents: list[str]) -> None:
        super().__init__(f"The department {department!r} still has agents: {', '.join(agents)}.")


class DepartmentHasTools(CatalogWriteConflict):
    """A department that tools are offered to cannot be deleted."""

    code = "department-has-tools"

    def __init__(self, department: str, tools: list[str]) -> None:
        super().__init__(f"Tools are offered to the department {department!r}: {', '.join(tools)}.")


class ToolInUse(CatalogWriteConflict):
    """A tool that agents name cannot be deleted or renamed."""

    code = "custom-tool-in-use"

    def __init__(self, tool_name: str, agents: list[str]) -> None:
        super().__init__(f"The tool {tool_name!r} is named by agents: {', '.join(agents)}.")


@dataclass(frozen=True)
class CatalogEditor(CatalogWriter):
    """Creates, changes and deletes departments, agents and custom tools."""

    tools: ToolChecker
    allowed_models: KnownModels
    mcp: McpTools = field(default_factory=NoServers)

    @catalog_write
    async def create_department(
        self, session: Session, wanted: DepartmentCreate, actor: Actor
    ) -> Entry[DepartmentRead]:
        """Create a department. It starts with the default quality weights, even if its slug had others before.

        Raises:
            InvalidInput, KeyTaken
        """
        self._check_model(wanted.default_model, "defaultModel")
        await self._drop_weights(wanted.slug, session)
        fields = with_criteria_rows(wanted.model_dump(by_alias=True))
        return department_entry(await self.insert(Department, fields, actor, session))

    @catalog_write
    async def update_department(
        self, session: Session, slug: str, patch: DepartmentUpdate, if_match: str | None, actor: Actor
    ) -> Entry[DepartmentRead]:
        """Change a department; its quality weights follow its slug.

        Raises:
            DepartmentNotFound, EditedMeanwhile, InvalidInput, KeyTaken
        """
        changes = patch.given()
        self._check_model(changes.get("defaultModel"), "defaultModel")
        raw = await self.find_current(Department, {"slug": slug}, DepartmentNotFound(slug), if_match, session)
        new_slug: str = changes.get("slug", slug)
        if new_slug != slug and slug != DEFAULT_SLUG:
            await self._drop_weights(new_slug, session)
            await self._weights.update_one({"slug": slug}, {"$set": {"slug": new_slug}}, session=session)
        changed = await self.change(Department, raw, with_criteria_rows(changes), slug, actor, session)
        return department_entry(changed)

    @catalog_write
    async def delete_department(self, session: Session, slug: str, if_match: str | None, actor: Actor) -> None:
        """Delete a department that has no agents and no tools, and its quality weights.

        Raises:
            DepartmentNotFound, DepartmentHasAgents, DepartmentHasTools, EditedMeanwhile
        """
        raw = await self.find_current(Department, {"slug": slug}, DepartmentNotFound(slug), if_match, session)
        if agents := await self._agent_ids({"department": raw["_id"]}, session):
            raise DepartmentHasAgents(slug, agents)
        if tools := await self._tool_names({"departments": raw["_id"]}, session):
            raise DepartmentHasTools(slug, tools)
        await self._drop_weights(slug, session)
        await self.delete(Department, raw, actor, session)

    @catalog_write
    async def create_agent(self, session: Session, wanted: AgentCreate, actor: Actor) -> Entry[AgentRead]:
        """Create an agent. A model or step limit that it does not set comes from its department.

        Raises:
            InvalidInput, KeyTaken, DepartmentHasHead
        """
        self._check_model(wanted.model, "model")
        fields = await self._agent_fields(wanted.model_dump(by_alias=True), {}, session)
        departments = await read_departments(self.database, session)
        if (defaults := departments.get(fields["department"])) is not None:
            fields["model"] = fields["model"] or defaults.model
            fields["maxAgentSteps"] = fields["maxAgentSteps"] or defaults.max_agent_steps
        await self.refuse_second_head(fields, None, wanted.department, session)
        raw = await self.insert(Agent, fields, actor, session)
        return agent_entry(raw, departments)

    @catalog_write
    async def update_agent(
        self, session: Session, agent_id: str, patch: AgentUpdate, if_match: str | None, actor: Actor
    ) -> Entry[AgentRead]:
        """Change an agent.

        Raises:
            AgentNotFound, EditedMeanwhile, InvalidInput, KeyTaken, DepartmentHasHead
        """
        given = patch.given()
        self._check_model(given.get("model"), "model")
        raw = await self.find_current(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), if_match, session)
        changes = await self._agent_fields(given, raw, session)
        merged = raw | changes
        if merged.get("isDepartmentHead") is True:
            changes["requiresReview"] = False
        if changes.get("isDepartmentHead") is True and merged.get("department") is None:
            raise InvalidInput.of_field("department", "is required for a department head")
        await self.refuse_second_head(merged, raw["_id"], given.get("department"), session)
        written = await self.change(Agent, raw, changes, agent_id, actor, session)
        return agent_entry(written, await read_departments(self.database, session))

    @catalog_write
    async def delete_agent(self, session: Session, agent_id: str, if_match: str | None, actor: Actor) -> None:
        """Delete an agent and keep its executions.

        Raises:
            AgentNotFound, EditedMeanwhile
        """
        raw = await self.find_current(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), if_match, session)
        await self.delete(Agent, raw, actor, session)

    async def create_custom_tool(self, wanted: CustomToolCreate, actor: Actor) -> Entry[CustomToolRead]:
        """Create a custom tool whose code compiles, whose schema is valid and whose examples pass.

        Raises:
            InvalidInput, KeyTaken
        """
        await self.tools.check(wanted.execute_function, wanted.input_schema, wanted.example_inputs)
        return await self._insert_tool(wanted, actor)

    @catalog_write
    async def _insert_tool(self, session: Session, wanted: CustomToolCreate, actor: Actor) -> Entry[CustomToolRead]:
        fields = await self._tool_fields(wanted.model_dump(by_alias=True), session)
        raw = await self.insert(CustomTool, fields, actor, session)
        return custom_tool_entry(raw, await read_departments(self.database, session), with_code=True)

    async def update_custom_tool(
        self, tool_name: str, patch: CustomToolUpdate, if_match: str | None, actor: Actor
    ) -> Entry[CustomToolRead]:
        """Change a custom tool. The changed tool is checked like a new one; its version must increase when its code or
        schema changes.

        Raises:
            CustomToolNotFound, EditedMeanwhile, InvalidInput, KeyTaken, ToolInUse, ToolIsBuiltin
        """
        given = patch.given()
        checked = await self._check_changed_tool(tool_name, given)
        return await self._change_tool(tool_name, given, checked, if_match, actor)

    async def _check_changed_tool(self, tool_name: str, given: JsonObject) -> Raw | None:
        """Check the tool as it will be, before the transaction because examples can run for seconds.

        Returns the stored fields that the check depends on, `None` if the patch changes none of them.
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

    @catalog_write
    async def _change_tool(
        self,
        session: Session,
        tool_name: str,
        given: JsonObject,
        checked: Raw | None,
        if_match: str | None,
        actor: Actor,
    ) -> Entry[CustomToolRead]:
        """Change a tool, unless the fields that it was checked with have changed since."""
        missing = CustomToolNotFound(tool_name)
        raw = await self.find_current(CustomTool, {"toolName": tool_name}, missing, if_match, session)
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
        written = await self.change(CustomTool, raw, changes, tool_name, actor, session)
        return custom_tool_entry(written, await read_departments(self.database, session), with_code=True)

    @catalog_write
    async def delete_custom_tool(self, session: Session, tool_name: str, if_match: str | None, actor: Actor) -> None:
        """Delete a custom tool that no agent names.

        Raises:
            CustomToolNotFound, ToolInUse, ToolIsBuiltin, EditedMeanwhile
        """
        missing = CustomToolNotFound(tool_name)
        raw = await self.find_current(CustomTool, {"toolName": tool_name}, missing, if_match, session)
        refuse_builtin(raw)
        await self._refuse_if_named(tool_name, session)
        await self.delete(CustomTool, raw, actor, session)

    async def _drop_weights(self, slug: str, session: Session) -> None:
        if slug != DEFAULT_SLUG:
            await self._weights.delete_one({"slug": slug}, session=session)

    @property
    def _weights(self) -> Collection:
        return collection_of(self.database, QualityWeights)

    def _check_model(self, model: str | None, field: str) -> None:
        if model is not None and model not in self.allowed_models:
            allowed = ", ".join(sorted(self.allowed_models.names))
            advice = ". A name with * stands for the models that it matches" if "*" in allowed else ""
            raise InvalidInput.of_field(field, f"must be one of the allowed models: {allowed}{advice}")

    async def _agent_fields(self, given: JsonObject, stored: Raw, session: Session) -> JsonObject:
        """Return an agent's fields in stored form, and touch the documents that they refer to."""
        fields = with_criteria_rows(given)
        if "department" in fields:
            fields["department"] = await self.touch(Department, "slug", fields["department"], "department", session)
        if "toolNames" in fields:
            names = list(dict.fromkeys(fields["toolNames"]))
            granted = names_in_rows(stored.get("toolNames"))
            department = fields.get("department", stored.get("department"))
            for place, name in enumerate(names):
                grantee = None if name in granted else Grantee(given.get("department"), department)
                await self._refer_to_tool(name, f"toolNames.{place}", grantee, session)
            fields["toolNames"] = [{"toolName": name, "id": new_row_id()} for name in names]
        if "approvalTools" in fields:
            granted = names_in_rows(fields.get("toolNames", stored.get("toolNames")))
            before = names_in_rows(stored.get("approvalTools"))
            names = list(dict.fromkeys(fields["approvalTools"]))
            for place, name in enumerate(names):
                if name not in granted and name not in before:
                    raise InvalidInput.of_field(f"approvalTools.{place}", f"{name!r} is not one of its toolNames")
            fields["approvalTools"] = [{"toolName": name, "id": new_row_id()} for name in names]
        if "skills" in fields:
            fields["skills"] = [{"skill": skill, "id": new_row_id()} for skill in fields["skills"]]
        if fields.get("isDepartmentHead") is True:
            fields["requiresReview"] = False
        if fields.get("outputSchema") is not None:
            fields["outputSchema"] = merge_patch(stored.get("outputSchema"), fields["outputSchema"])
            await check_output_schema(fields["outputSchema"])
        return fields

    async def _refer_to_tool(self, name: str, path: str, grantee: "Grantee | None", session: Session) -> None:
        """Refuse a tool that does not exist, or that the department of a new grantee may not use."""
        if name.startswith(MCP_PREFIX):
            if problem := self.mcp.problem_with(name):
                raise InvalidInput.of_field(path, f"{name!r} does not exist: {problem}")
            return
        fields = ["isGlobal", "departments"]
        raw = await self.touch_fields(CustomTool, {"toolName": name}, fields, path, session)
        if grantee is None or raw.get("isGlobal") is True or grantee.department in (raw.get("departments") or ()):
            return
        slug = grantee.slug or await self.slug_of(grantee.department, session)
        message = f"{name!r} is not offered to the department {slug!r}: add it to the tool's departments"
        raise InvalidInput.of_field(path, f"{message}, or make the tool global")

    async def _tool_fields(self, given: JsonObject, session: Session) -> JsonObject:
        """Return a tool's fields in stored form."""
        fields = dict(given)
        if "departments" in fields:
            slugs: list[str] = list(dict.fromkeys(fields["departments"]))
            fields["departments"] = [
                await self.touch(Department, "slug", slug, f"departments.{place}", session)
                for place, slug in enumerate(slugs)
            ]
        if "exampleInputs" in fields:
            fields["exampleInputs"] = [{"example": example, "id": new_row_id()} for example in fields["exampleInputs"]]
        return fields

    async def _agent_ids(self, selector: Raw, session: Session) -> list[str]:
        found = self.collection(Agent).find(selector, {"agentId": 1}, session=session).limit(MAX_NAMED)
        return [str(raw.get("agentId")) async for raw in found]

    async def _tool_names(self, selector: Raw, session: Session) -> list[str]:
        found = self.collection(CustomTool).find(selector, {"toolName": 1}, session=session).limit(MAX_NAMED)
        return [str(raw.get("toolName")) async for raw in found]

    async def _refuse_if_named(self, tool_name: str, session: Session) -> None:
        agents = await self._agent_ids({"toolNames.toolName": tool_name}, session)
        if agents:
            raise ToolInUse(tool_name, agents)


@dataclass(frozen=True)
class Grantee:
    """The department of an agent that is newly granted a tool: its id, and its slug if known."""

    slug: str | None
    department: Any


def with_criteria_rows(given: JsonObject) -> JsonObject:
    """Return the fields of an entry with its criteria, if any, as rows of an array."""
    if "qualityCriteria" not in given:
        return dict(given)
    rows = [{"criterion": criterion, "id": new_row_id()} for criterion in given["qualityCriteria"]]
    return {**given, "qualityCriteria": rows}


def names_in_rows(rows: Any) -> set[str]:  # noqa: ANN401 - any stored value
    """Return the tools that a stored agent is already granted; malformed rows count as absent."""
    if not isinstance(rows, list):
        return set()
    return {row["toolName"] for row in rows if isinstance(row, dict) and isinstance(row.get("toolName"), str)}


def stored_examples(raw: Raw) -> list[Any]:
    """Return the examples of a stored tool; malformed rows count as absent."""
    rows = raw.get("exampleInputs")
    return [row.get("example") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def merge_patch(current: object, patch: JsonObject) -> JsonObject:
    """Apply a merge patch (RFC 7396); a current value that is not an object counts as an empty one."""
    merged = dict(cast("JsonObject", current)) if isinstance(current, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge_patch(merged.get(name), value)
        else:
            merged[name] = value
    return merged
