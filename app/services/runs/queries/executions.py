"""Queries of executions: lists, single ones and trees."""

import asyncio
from dataclasses import dataclass

from bson import ObjectId

from app.database.collections import Collection, collection_of
from app.database.connection import Database
from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.reader import Archives, TreeArchive
from app.events.replay import ExecutionNotFound
from app.kit.json_values import JsonObject
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import Page
from app.models.agent_execution import AgentExecution
from app.models.api_key import Role
from app.models.base import Relation
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department
from app.services.access.api_keys import Caller
from app.services.catalog.loader import parsed
from app.services.runs.queries.execution_filter import ExecutionFilter
from app.services.runs.queries.execution_shapes import (
    NO_NAMES,
    ArchiveRead,
    ExecutionRead,
    ExecutionSummary,
    Names,
    TreeNode,
    archive_fields,
    archive_read,
    by_parent,
    read_of,
    summary_fields,
    tree_node,
)
from app.services.runs.queries.last_seqs import read_last_seqs
from app.services.runs.queries.tree_totals import read_totals

SUMMARY_FIELDS = {"events": 0, "runState": 0, "promptWords": 0}
LIST_FIELDS = {**SUMMARY_FIELDS, "output": 0, "params": 0}
MAX_FOUND = 10_000
"""The maximum count for searches and for executions that wait for a person."""


@dataclass(frozen=True)
class ExecutionQueries:
    """Reads the executions that a caller may see."""

    database: Database
    archives: Archives

    async def get_execution(self, execution_id: str, caller: Caller, known: Names = NO_NAMES) -> ExecutionRead:
        """Return one execution; natural keys that are `known` are not looked up again.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        execution = await self._get(execution_id, caller, {"events": 0})
        execution.last_seq = (await read_last_seqs(self.database, [execution]))[execution_id]
        archive = await self._restore(execution)
        found = await self.read(execution, await self._names([execution], known), caller)
        found.archive = archive
        return found

    async def read(self, execution: AgentExecution, names: Names, caller: Caller) -> ExecutionRead:
        """Return an execution in the form of the API; the document of a root with one execution is enough."""
        found = await read_of(execution, names, is_admin=caller.has(Role.ADMIN))
        found.total = (await read_totals(self.database, [execution])).get(execution.execution_id)
        return found

    async def find_visible(self, execution_id: str, caller: Caller) -> AgentExecution:
        """Return an execution's document without its events and history.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        return await self._get(execution_id, caller, SUMMARY_FIELDS)

    async def list_executions(self, wanted: ExecutionFilter, page: PageRequest, caller: Caller) -> Page:
        """Return the executions that match a filter, newest first by default."""
        selector = await self._selector(wanted, caller)
        max_total = MAX_FOUND if wanted.q is not None or wanted.awaiting is not None else None
        found = await read_page(self._executions, selector, page, LIST_FIELDS, max_total)
        executions = [one for raw in found.raws if (one := parsed(AgentExecution, raw))]
        names = await self._names(executions)
        is_admin = caller.has(Role.ADMIN)
        totals, last_seqs = await asyncio.gather(
            read_totals(self.database, executions), read_last_seqs(self.database, executions)
        )
        archives = await asyncio.gather(*map(self._describe_archive, executions))
        items = [
            ExecutionSummary.model_validate(
                summary_fields(one, names, is_admin=is_admin)
                | {"total": totals.get(one.execution_id), "last_seq": last_seqs[one.execution_id], "archive": archive}
            )
            for one, archive in zip(executions, archives, strict=True)
        ]
        return Page(items, found.total, found.next_cursor)

    async def get_tree(self, execution_id: str, caller: Caller) -> TreeNode:
        """Return the tree below an execution, with the outcome of each node.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        top = await self._get(execution_id, caller, SUMMARY_FIELDS)
        found = self._executions.find({"rootExecutionId": top.root_id}, LIST_FIELDS).sort("_id")
        members = [one async for raw in found if (one := parsed(AgentExecution, raw))]
        names = await self._names([top, *members])
        return tree_node(top, by_parent(members), names, {top.execution_id})

    async def _get(self, execution_id: str, caller: Caller, fields: JsonObject) -> AgentExecution:
        raw = await self._executions.find_one({"executionId": execution_id}, fields)
        execution = parsed(AgentExecution, raw) if raw else None
        if execution is None or not caller.may_see(str(execution.project) if execution.project else None):
            raise ExecutionNotFound(execution_id)
        return execution

    def archive_of(self, execution: AgentExecution) -> TreeArchive | None:
        """Return the archive of an execution's tree; `None` if it is not archived."""
        return self.archives.find({"rootExecutionId": execution.root_id, **archive_fields(execution)})

    async def _describe_archive(self, execution: AgentExecution) -> ArchiveRead | None:
        """Describe the archive of an execution without reading its content; `None` without one."""
        archive = self.archive_of(execution)
        if archive is None:
            return None
        try:
            await archive.manifest()
        except ArchiveUnreadable as error:
            return archive_read(archive, error.problem)
        return archive_read(archive, None)

    async def _restore(self, execution: AgentExecution) -> ArchiveRead | None:
        """Fill in the archived parts of an execution, and describe the archive; `None` without one."""
        archive = self.archive_of(execution)
        if archive is None:
            return None
        try:
            document = await archive.document(execution.execution_id)
        except ArchiveUnreadable as error:
            return archive_read(archive, error.problem)
        if document is None:
            return archive_read(archive, "it does not contain the execution")
        execution.prompt = document.get("prompt", "")
        execution.params, execution.output = document.get("params"), document.get("output")
        execution.run_state = document.get("runState")
        return archive_read(archive, None)

    async def _selector(self, wanted: ExecutionFilter, caller: Caller) -> JsonObject:
        conditions = await wanted.conditions(self._id_of)
        if caller.projects is not None:
            allowed = [ObjectId(one) for one in caller.projects if ObjectId.is_valid(one)]
            conditions.append({"project": {"$in": allowed}})
        return {"$and": conditions} if conditions else {}

    async def _id_of(self, document: type[Agent | Department], selector: JsonObject) -> ObjectId:
        """Return the id of a natural key; an unknown key gets an id that no document has."""
        raw = await collection_of(self.database, document).find_one(selector, {"_id": 1})
        return raw["_id"] if raw else ObjectId()

    async def _names(self, executions: list[AgentExecution], known: Names = NO_NAMES) -> Names:
        agents = {one.agent for one in executions} | {one.reviewed_by for one in executions}
        departments = {one.department for one in executions}
        return Names(
            await self._keys(Agent, "agentId", agents, known.agents),
            await self._keys(Department, "slug", departments, known.departments),
        )

    async def _keys(
        self, document: type[Agent | Department], field: str, ids: set[Relation | None], known: dict[Relation, str]
    ) -> dict[Relation, str]:
        wanted = [one for one in ids if one is not None and one not in known]
        if not wanted:
            return known
        found = collection_of(self.database, document).find({"_id": {"$in": wanted}}, {field: 1})
        return known | {raw["_id"]: raw[field] async for raw in found if isinstance(raw.get(field), str)}

    @property
    def _executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)
