"""Writing the catalogue: rules that hold whoever else writes at the same time.

Every write is one transaction. It touches what it refers to (an agent its department and tools), so that a concurrent
delete of that conflicts with it and one of the two looks again. Updates are targeted: what others stored in the same
document stays as it is.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.errors import AppError, InvalidInput
from app.models.agent import Agent
from app.models.base import PayloadDocument, Relation, new_row_id, utc_now
from app.models.custom_tool import CustomTool
from app.models.database import Database, Raw
from app.models.department import Department
from app.models.json_values import JsonObject
from app.services.catalog.browsing import CustomToolNotFound
from app.services.catalog.etags import REFERRED, EditedMeanwhile, check_if_match
from app.services.catalog.inputs import (
    AgentCreate,
    AgentUpdate,
    CustomToolCreate,
    CustomToolUpdate,
    DepartmentCreate,
    DepartmentUpdate,
)
from app.services.catalog.loading import AgentNotFound, DepartmentNotFound
from app.services.catalog.tool_checks import ToolChecker

MAX_NAMED = 10
CHECKED_TOGETHER = frozenset({"executeFunction", "inputSchema", "exampleInputs"})


class CatalogWriteConflict(AppError):
    """The write would break a rule of the catalogue."""

    code = "conflict"
    status = HTTPStatus.CONFLICT


class KeyTaken(CatalogWriteConflict):
    """Another entry has this key already."""

    code = "already-exists"

    def __init__(self, key: str, value: str) -> None:
        super().__init__(f"There is already one with the {key} {value!r}.")


class DepartmentHasHead(CatalogWriteConflict):
    """A department has one head."""

    code = "department-has-head"

    def __init__(self, department: str, head: str) -> None:
        super().__init__(f"The department {department!r} already has a head: {head}.")


class DepartmentHasAgents(CatalogWriteConflict):
    """A department that has agents cannot go."""

    code = "department-has-agents"

    def __init__(self, department: str, agents: list[str]) -> None:
        super().__init__(f"The department {department!r} still has agents: {', '.join(agents)}.")


class ToolInUse(CatalogWriteConflict):
    """A tool that agents name cannot go, or take another name."""

    code = "custom-tool-in-use"

    def __init__(self, tool_name: str, agents: list[str]) -> None:
        super().__init__(f"The tool {tool_name!r} is named by agents: {', '.join(agents)}.")


@dataclass(frozen=True)
class CatalogEditor:
    """Creates, changes and deletes departments, agents and custom tools; gives back the raw document."""

    database: Database
    tools: ToolChecker
    allowed_models: frozenset[str]

    async def create_department(self, wanted: DepartmentCreate) -> Raw:
        """A new department.

        Raises:
            InvalidInput, KeyTaken
        """
        self._check_model(wanted.default_model, "defaultModel")
        return await self._insert(Department, wanted.model_dump(by_alias=True), "slug")

    async def update_department(self, slug: str, patch: DepartmentUpdate, if_match: str | None) -> Raw:
        """A changed department.

        Raises:
            DepartmentNotFound, EditedMeanwhile, InvalidInput, KeyTaken
        """
        changes = patch.given()
        self._check_model(changes.get("defaultModel"), "defaultModel")

        async def prepare(_: AsyncClientSession, __: Raw) -> JsonObject:
            return changes

        return await self._update(Department, {"slug": slug}, DepartmentNotFound(slug), prepare, if_match)

    async def delete_department(self, slug: str, if_match: str | None) -> None:
        """Delete a department that has no agents.

        Raises:
            DepartmentNotFound, DepartmentHasAgents, EditedMeanwhile
        """

        async def refuse(session: AsyncClientSession, raw: Raw) -> None:
            agents = await self._agent_ids({"department": raw["_id"]}, session)
            if agents:
                raise DepartmentHasAgents(slug, agents)

        await self._delete(Department, {"slug": slug}, DepartmentNotFound(slug), refuse, if_match)

    async def create_agent(self, wanted: AgentCreate) -> Raw:
        """A new agent.

        Raises:
            InvalidInput, KeyTaken, DepartmentHasHead
        """
        self._check_model(wanted.model, "model")

        async def prepare(session: AsyncClientSession) -> JsonObject:
            fields = await self._agent_fields(wanted.model_dump(by_alias=True), session)
            await self._refuse_second_head(fields, None, wanted.department, session)
            return fields

        return await self._insert(Agent, prepare, "agentId")

    async def update_agent(self, agent_id: str, patch: AgentUpdate, if_match: str | None) -> Raw:
        """A changed agent.

        Raises:
            AgentNotFound, EditedMeanwhile, InvalidInput, KeyTaken, DepartmentHasHead
        """
        given = patch.given()
        self._check_model(given.get("model"), "model")

        async def prepare(session: AsyncClientSession, raw: Raw) -> JsonObject:
            changes = await self._agent_fields(given, session)
            merged = raw | changes
            if merged.get("isDepartmentHead") is True:
                changes["requiresReview"] = False
            await self._refuse_second_head(merged, raw["_id"], given.get("department"), session)
            return changes

        return await self._update(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), prepare, if_match)

    async def delete_agent(self, agent_id: str, if_match: str | None) -> None:
        """Delete an agent; its executions stay.

        Raises:
            AgentNotFound, EditedMeanwhile
        """

        async def refuse(_: AsyncClientSession, __: Raw) -> None:
            return None

        await self._delete(Agent, {"agentId": agent_id}, AgentNotFound(agent_id), refuse, if_match)

    async def create_custom_tool(self, wanted: CustomToolCreate) -> Raw:
        """A new custom tool, whose code compiles, whose schema is one, and whose examples pass.

        Raises:
            InvalidInput, KeyTaken
        """
        await self.tools.check(wanted.execute_function, wanted.input_schema, wanted.example_inputs)

        async def prepare(session: AsyncClientSession) -> JsonObject:
            return await self._tool_fields(wanted.model_dump(by_alias=True), session)

        return await self._insert(CustomTool, prepare, "toolName")

    async def update_custom_tool(self, tool_name: str, patch: CustomToolUpdate, if_match: str | None) -> Raw:
        """A changed custom tool, checked as a whole.

        Raises:
            CustomToolNotFound, EditedMeanwhile, InvalidInput, KeyTaken, ToolInUse
        """
        given = patch.given()
        checked = await self._check_changed_tool(tool_name, given)

        async def prepare(session: AsyncClientSession, raw: Raw) -> JsonObject:
            if checked is not None and any(raw.get(name) != value for name, value in checked.items()):
                raise EditedMeanwhile
            changes = await self._tool_fields(given, session)
            if "inputSchema" in given:
                changes["inputSchema"] = merge_patch(raw.get("inputSchema") or {}, given["inputSchema"])
            if changes.get("toolName", tool_name) != tool_name:
                await self._refuse_if_named(tool_name, session)
            return changes

        missing = CustomToolNotFound(tool_name)
        return await self._update(CustomTool, {"toolName": tool_name}, missing, prepare, if_match)

    async def _check_changed_tool(self, tool_name: str, given: JsonObject) -> Raw | None:
        """Check a tool as it would be, before the transaction: examples may run for seconds.

        Gives the fields it was checked with as they are stored now, `None` when nothing about them changes.
        """
        if not given.keys() & CHECKED_TOGETHER:
            return None
        raw = await self._collection(CustomTool).find_one({"toolName": tool_name})
        if raw is None:
            raise CustomToolNotFound(tool_name)
        schema = merge_patch(raw.get("inputSchema") or {}, given.get("inputSchema", {}))
        stored_examples = [row.get("example") for row in raw.get("exampleInputs") or []]
        code = given.get("executeFunction", raw.get("executeFunction") or "")
        await self.tools.check(code, schema, given.get("exampleInputs", stored_examples))
        return {name: raw.get(name) for name in CHECKED_TOGETHER}

    async def delete_custom_tool(self, tool_name: str, if_match: str | None) -> None:
        """Delete a custom tool that no agent names.

        Raises:
            CustomToolNotFound, ToolInUse, EditedMeanwhile
        """

        async def refuse(session: AsyncClientSession, _: Raw) -> None:
            await self._refuse_if_named(tool_name, session)

        await self._delete(CustomTool, {"toolName": tool_name}, CustomToolNotFound(tool_name), refuse, if_match)

    def _check_model(self, model: str | None, field: str) -> None:
        if model is not None and model not in self.allowed_models:
            allowed = ", ".join(sorted(self.allowed_models))
            raise InvalidInput.of_field(field, f"must be one of the allowed models: {allowed}")

    async def _agent_fields(self, given: JsonObject, session: AsyncClientSession) -> JsonObject:
        """An agent's fields as stored: relations as ids, lists as rows; what it refers to is touched."""
        fields = dict(given)
        if "department" in fields:
            fields["department"] = await self._touch(Department, "slug", fields["department"], "department", session)
        if "toolNames" in fields:
            names = list(dict.fromkeys(fields["toolNames"]))
            for place, name in enumerate(names):
                await self._touch(CustomTool, "toolName", name, f"toolNames.{place}", session)
            fields["toolNames"] = [{"toolName": name, "id": new_row_id()} for name in names]
        if "skills" in fields:
            fields["skills"] = [{"skill": skill, "id": new_row_id()} for skill in fields["skills"]]
        if fields.get("isDepartmentHead") is True:
            fields["requiresReview"] = False
        return fields

    async def _tool_fields(self, given: JsonObject, session: AsyncClientSession) -> JsonObject:
        """A tool's fields as stored."""
        fields = dict(given)
        if "departments" in fields:
            slugs: list[str] = list(dict.fromkeys(fields["departments"]))
            fields["departments"] = [
                await self._touch(Department, "slug", slug, f"departments.{place}", session)
                for place, slug in enumerate(slugs)
            ]
        if "exampleInputs" in fields:
            fields["exampleInputs"] = [{"example": one, "id": new_row_id()} for one in fields["exampleInputs"]]
        return fields

    async def _touch(
        self, document: type[PayloadDocument], key: str, value: str, path: str, session: AsyncClientSession
    ) -> Relation:
        """The id of what a natural key names, locked against its deletion until this transaction has ended."""
        found = await self._collection(document).find_one_and_update(
            {key: value}, {"$inc": {REFERRED: 1}}, projection={"_id": 1}, session=session
        )
        if found is None:
            raise InvalidInput.of_field(path, f"{value!r} does not exist")
        return found["_id"]

    async def _refuse_second_head(
        self, agent: Raw, own_id: ObjectId | None, slug: str | None, session: AsyncClientSession
    ) -> None:
        """Name the head that stands in the way; the database's own index refuses what slips past."""
        if agent.get("isDepartmentHead") is not True:
            return
        other = await self._collection(Agent).find_one(
            {"department": agent["department"], "isDepartmentHead": True, "_id": {"$ne": own_id}},
            {"agentId": 1, "name": 1},
            session=session,
        )
        if other is not None:
            department = slug or await self._slug_of(agent["department"], session)
            raise DepartmentHasHead(department, f"{other.get('name')} ({other.get('agentId')})")

    async def _slug_of(self, department: ObjectId, session: AsyncClientSession) -> str:
        raw = await self._collection(Department).find_one({"_id": department}, {"slug": 1}, session=session)
        return str((raw or {}).get("slug"))

    async def _agent_ids(self, selector: Raw, session: AsyncClientSession) -> list[str]:
        found = self._collection(Agent).find(selector, {"agentId": 1}, session=session).limit(MAX_NAMED)
        return [str(raw.get("agentId")) async for raw in found]

    async def _refuse_if_named(self, tool_name: str, session: AsyncClientSession) -> None:
        agents = await self._agent_ids({"toolNames.toolName": tool_name}, session)
        if agents:
            raise ToolInUse(tool_name, agents)

    async def _insert(
        self,
        document: type[PayloadDocument],
        fields: JsonObject | Callable[[AsyncClientSession], Awaitable[JsonObject]],
        key: str,
    ) -> Raw:
        """Store a new document in Payload's form, with every default."""

        async def insert(session: AsyncClientSession) -> Raw:
            prepared = fields if isinstance(fields, dict) else await fields(session)
            new = document.model_validate(prepared | {"_id": ObjectId()})
            raw = new.as_stored()
            await self._collection(document).insert_one(raw, session=session)
            return raw

        return await self._in_transaction(insert, key)

    async def _update(
        self,
        document: type[PayloadDocument],
        selector: Raw,
        missing: AppError,
        prepare: Callable[[AsyncClientSession, Raw], Awaitable[JsonObject]],
        if_match: str | None,
    ) -> Raw:
        """Set what changes and nothing else; `null` unsets."""

        async def update(session: AsyncClientSession) -> Raw:
            raw = await self._collection(document).find_one(selector, session=session)
            if raw is None:
                raise missing
            check_if_match(raw, if_match)
            changes = await prepare(session, raw)
            if not changes:
                return raw
            setting = {name: value for name, value in changes.items() if value is not None} | {"updatedAt": utc_now()}
            unsetting = {name: "" for name, value in changes.items() if value is None}
            operators = {"$set": setting} | ({"$unset": unsetting} if unsetting else {})
            return await self._collection(document).find_one_and_update(
                {"_id": raw["_id"]}, operators, return_document=True, session=session
            )

        return await self._in_transaction(update, next(iter(selector)))

    async def _delete(
        self,
        document: type[PayloadDocument],
        selector: Raw,
        missing: AppError,
        refuse: Callable[[AsyncClientSession, Raw], Awaitable[None]],
        if_match: str | None,
    ) -> None:
        async def delete(session: AsyncClientSession) -> None:
            raw = await self._collection(document).find_one(selector, session=session)
            if raw is None:
                raise missing
            check_if_match(raw, if_match)
            await refuse(session, raw)
            await self._collection(document).delete_one({"_id": raw["_id"]}, session=session)

        await self._in_transaction(delete, next(iter(selector)))

    async def _in_transaction(self, work: Callable[[AsyncClientSession], Awaitable[Any]], key: str) -> Any:  # noqa: ANN401 - whatever the work gives
        """Run in a transaction, again when it met another one; a broken unique index is a conflict that names it."""
        async with self.database.client.start_session() as session:
            try:
                return await session.with_transaction(work)
            except DuplicateKeyError as error:
                raise duplicate(error, key) from None

    def _collection(self, document: type[PayloadDocument]) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[document.get_collection_name()]


def duplicate(error: DuplicateKeyError, key: str) -> AppError:
    """The conflict behind a broken unique index."""
    details = error.details or {}
    value: JsonObject = details.get("keyValue") or {}
    if "department" in value:
        return DepartmentHasHead(str(value["department"]), "another agent was faster")
    return KeyTaken(key, str(value.get(key)))


def merge_patch(current: JsonObject, patch: JsonObject) -> JsonObject:
    """RFC 7396: `null` removes, objects merge, all else replaces."""
    merged = dict(current)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged
