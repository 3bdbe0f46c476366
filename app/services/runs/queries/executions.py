"""Queries of executions: lists, single ones and trees; those of other programs are shown unchanged."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from app.database.connection import Database, Raw
from app.events.replay import ExecutionNotFound, count_rows
from app.events.stored_numbers import last_seq_of
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import count_values
from app.kit.json_values import JsonObject, clean_json
from app.kit.paging import PageRequest, read_page
from app.kit.schemas import ApiModel, Page, Timestamp
from app.models.agent import Agent
from app.models.agent_execution import (
    AgentExecution,
    ExecutionKind,
    ExecutionStatus,
    ReviewStatus,
    StopReason,
)
from app.models.api_key import Role
from app.models.base import Relation
from app.models.department import Department
from app.services.access.api_keys import Caller
from app.services.catalog.loader import parsed
from app.services.runs.queries.tree_totals import TreeTotal, read_totals

SUMMARY_FIELDS = {"events": 0, "runState": 0}
MAX_TREE_DEPTH = 32
"""The levels of a run's tree; deeper executions are not shown."""
LIST_FIELDS = {**SUMMARY_FIELDS, "output": 0, "params": 0}
MAX_INLINE_VALUES = 5_000
"""The number of values up to which a response is built on the event loop, in about 5 ms."""


class ExecutionLinks(ApiModel):
    """Where the rest of an execution is."""

    self: str
    """The path of the execution."""
    events: str
    """The path of its stored events."""
    stream: str
    """The path of its event stream (Server-Sent Events)."""
    websocket: str = "/api/agent-events"
    """The path of the event socket, to which the execution can be subscribed."""

    @classmethod
    def of(cls, execution_id: str) -> "ExecutionLinks":
        """The links of an execution."""
        base = f"/api/v1/executions/{execution_id}"
        return cls(self=base, events=f"{base}/events", stream=f"{base}/events/stream")


class StartedByRead(ApiModel):
    """The caller that started a run."""

    type: str
    """How it authenticated: `api-key`, `token`, or `anonymous`."""
    name: str
    """The name of the key, or the subject of the token."""


class ExecutionSummary(ApiModel):
    """The fields of an execution that every response has; `agent` and `department` are natural keys."""

    execution_id: str
    """The execution's id."""
    root_execution_id: str
    """The id of the root of its run tree. A root names itself."""
    parent_execution_id: str | None
    """The id of the execution that started it; `null` for a root."""
    kind: ExecutionKind
    """The kind of execution."""
    status: ExecutionStatus
    """The status of the execution."""
    agent: str | None
    """The id of its agent; `null` if the agent no longer exists."""
    department: str | None
    """The slug of its department; `null` if it has no department, or the department no longer exists."""
    project: str | None
    """The id of the CMS project that the run belongs to."""
    episode: str | None
    """The id of the CMS episode that the run belongs to, if any."""
    conversation_id: str | None
    """The conversation that the run belongs to, if any."""
    retry_of: str | None
    """The id of the execution that this one retries."""
    previous_execution_id: str | None
    """The id of the execution whose conversation this one continues."""
    prompt: str
    """The task."""
    started_at: Timestamp | None
    """When the first process began to work on it; `null` until then."""
    completed_at: Timestamp | None
    """When it reached a terminal status; `null` until then."""
    execution_time: float | None
    """The time from start to end in milliseconds; `null` until the end."""
    token_usage: Any
    """The tokens of its model calls, `{"input", "output", "total", "cacheRead", "cacheWrite"}`; `null` until the
    end."""
    cost_usd: float | None
    """The cost of its model calls in US dollars; `null` if a price is unknown."""
    total: TreeTotal | None = None
    """The sums over the tree below a root, as far as its executions have ended; `null` for other executions."""
    tags: list[str]
    """The labels of the run."""
    started_by: StartedByRead | None
    """The caller that started the run."""
    quality_score: float | None
    """0 to 100: the `score` of its last `quality-check` event, which is 0 to 1, times 100. `null` if unscored."""
    review_status: ReviewStatus
    """The outcome of the latest review."""
    stop_reason: StopReason | None
    """The reason why it stopped; `null` until the end."""
    truncated: bool
    """Whether the output stopped at the model's output limit (its `finish_reason` was `length`) and is
    incomplete."""
    error: Any
    """The error of a failed execution, `{"code", "message"}`. If the model provider refused the call, admins also
    see `providerMessage`, the provider's own words without secrets."""
    retry_count: int
    """The number of revisions."""
    created_at: Timestamp
    """When the execution was accepted."""
    updated_at: Timestamp
    """When its document was last changed."""
    links: ExecutionLinks
    """Where to read more about it."""


class ExecutionRead(ExecutionSummary):
    """A full execution, without its events, which have an endpoint of their own."""

    params: Any
    """The parameters of the run, as data for its agents."""
    output: Any
    """The result, `{"text", "data", …}`; a root's has `report` too. `null` until the end."""
    run_state: Any
    """The message history (`messages`) of an ended execution, from which another can continue. `null` until the end.

    If the execution was cancelled, or failed and was not continued, the agent's instructions are left out. A history
    that is too large for one document is left out and named in `omitted`: read its events instead."""
    reviewed_by: str | None
    """The id of the agent that made the latest review, if an agent made it."""
    review_notes: str | None
    """The notes of the latest review."""
    last_seq: int
    """The number of its last event; for a root, of the last event in its tree."""


class TreeNode(ApiModel):
    """An execution in its run tree."""

    execution_id: str
    """The execution's id."""
    kind: ExecutionKind
    """The kind of execution."""
    agent: str | None
    """The id of its agent; `null` if the agent no longer exists."""
    department: str | None
    """The slug of its department; `null` if it has no department, or the department no longer exists."""
    status: ExecutionStatus
    """The status of the execution."""
    quality_score: float | None
    """0 to 100; `null` if unscored."""
    review_status: ReviewStatus
    """The outcome of the latest review."""
    token_usage: Any
    """The tokens of its own model calls."""
    cost_usd: float | None
    """The cost of its own model calls in US dollars; `null` if a price is unknown."""
    children: list["TreeNode"]
    """The executions that it started."""


@dataclass(frozen=True)
class ExecutionFilter:
    """The filter of a list of executions."""

    project: str | None = None
    agent: str | None = None
    department: str | None = None
    status: ExecutionStatus | None = None
    review_status: ReviewStatus | None = None
    kind: ExecutionKind | None = None
    root_execution_id: str | None = None
    conversation_id: str | None = None
    started_from: datetime | None = None
    started_to: datetime | None = None


@dataclass(frozen=True)
class Names:
    """The natural keys behind relations."""

    agents: dict[Relation, str]
    departments: dict[Relation, str]


NO_NAMES = Names({}, {})


@dataclass(frozen=True)
class ExecutionQueries:
    """Reads the executions that a caller may see."""

    database: Database

    async def get_execution(self, execution_id: str, caller: Caller, known: Names = NO_NAMES) -> ExecutionRead:
        """Return one execution; natural keys that are `known` are not looked up again.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
        """
        execution = await self._get(execution_id, caller, {"events": 0})
        execution.last_seq = await self._last_seq(execution)
        return await self.read(execution, await self._names([execution], known), caller)

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
        """Return the executions that match a filter, by default the newest first."""
        selector = await self._selector(wanted, caller)
        found = await read_page(self._executions, selector, page, LIST_FIELDS)
        executions = [one for raw in found.raws if (one := parsed(AgentExecution, raw))]
        names = await self._names(executions)
        is_admin = caller.has(Role.ADMIN)
        totals = await read_totals(self.database, executions)
        items = [
            ExecutionSummary.model_validate(
                summary_fields(one, names, is_admin=is_admin) | {"total": totals.get(one.execution_id)}
            )
            for one in executions
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

    async def _last_seq(self, execution: AgentExecution) -> int:
        """Return the number of the last event in an execution's stream: for a root, in its complete tree."""
        if not execution.is_ours:
            return await count_rows(self.database, execution.execution_id)
        own = {"executionId": execution.execution_id, "lastSeq": execution.last_seq}
        if execution.root_id != execution.execution_id:
            return await last_seq_of(self.database, own)
        fields = {"executionId": 1, "lastSeq": 1, "_id": 0}
        members = self._executions.find({"rootExecutionId": execution.execution_id}, fields)
        return max([await last_seq_of(self.database, one) async for one in members], default=0)

    async def _selector(self, wanted: ExecutionFilter, caller: Caller) -> JsonObject:
        equal = {
            "status": wanted.status,
            "reviewStatus": wanted.review_status,
            "kind": wanted.kind,
            "rootExecutionId": wanted.root_execution_id,
            "conversationId": wanted.conversation_id,
        }
        selector: JsonObject = {name: str(value) for name, value in equal.items() if value is not None}
        if wanted.project is not None:
            selector["project"] = ObjectId(wanted.project)
        if caller.projects is not None:
            allowed = [ObjectId(one) for one in caller.projects if ObjectId.is_valid(one)]
            selector = (
                {"$and": [selector, {"project": {"$in": allowed}}]} if selector else {"project": {"$in": allowed}}
            )
        if wanted.agent is not None:
            selector["agent"] = await self._id_of(Agent, {"agentId": wanted.agent})
        if wanted.department is not None:
            selector["department"] = await self._id_of(Department, {"slug": wanted.department})
        bounds = {"$gte": wanted.started_from, "$lt": wanted.started_to}
        if any(bounds.values()):
            selector["startedAt"] = {operator: value for operator, value in bounds.items() if value}
        return selector

    async def _id_of(self, document: type[Agent | Department], selector: Raw) -> ObjectId:
        """Return the id of a natural key; an unknown key gets an id that no document has."""
        raw = await self.database[document.get_collection_name()].find_one(selector, {"_id": 1})
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
        found = self.database[document.get_collection_name()].find({"_id": {"$in": wanted}}, {field: 1})
        return known | {raw["_id"]: raw[field] async for raw in found if isinstance(raw.get(field), str)}

    @property
    def _executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[AgentExecution.get_collection_name()]


def summary_fields(execution: AgentExecution, names: Names, *, is_admin: bool = False) -> JsonObject:
    """Return the fields of every response, from a document."""
    return {
        **dict(execution),
        "root_execution_id": execution.root_id,
        "agent": names.agents.get(execution.agent) if execution.agent else None,
        "department": names.departments.get(execution.department) if execution.department else None,
        "project": str(execution.project) if execution.project else None,
        "episode": str(execution.episode) if execution.episode else None,
        "token_usage": clean_json(execution.token_usage),
        "tags": execution.options.tags if execution.options else [],
        "truncated": bool(execution.truncated),
        "error": error_of(execution, is_admin=is_admin),
        "links": ExecutionLinks.of(execution.execution_id),
    }


def error_of(execution: AgentExecution, *, is_admin: bool) -> Any:  # noqa: ANN401 - other programs store any JSON value
    """Return the error of an execution; admins also see the model provider's message, if there is one."""
    error = clean_json(execution.error)
    if not is_admin or not execution.provider_message or not isinstance(error, dict):
        return error
    return {**error, "providerMessage": execution.provider_message}


async def read_of(execution: AgentExecution, names: Names, *, is_admin: bool = False) -> ExecutionRead:
    """Build a full execution from its document, in a thread if it is large."""
    large_fields = [execution.params, execution.output, execution.run_state]
    if count_values(large_fields, MAX_INLINE_VALUES) < MAX_INLINE_VALUES:
        return full_shape(execution, names, is_admin=is_admin)
    return await in_check_thread(full_shape, execution, names, is_admin=is_admin)


def full_shape(execution: AgentExecution, names: Names, *, is_admin: bool) -> ExecutionRead:
    """Build a full execution from its document."""
    changed = {
        "params": clean_json(execution.params),
        "output": clean_json(execution.output),
        "run_state": clean_json(execution.run_state),
        "reviewed_by": names.agents.get(execution.reviewed_by) if execution.reviewed_by else None,
    }
    return ExecutionRead.model_validate({**summary_fields(execution, names, is_admin=is_admin), **changed})


def by_parent(members: list[AgentExecution]) -> dict[str, list[AgentExecution]]:
    """Group executions by the one that started them."""
    found: defaultdict[str, list[AgentExecution]] = defaultdict(list)
    for one in members:
        if one.parent_execution_id is not None:
            found[one.parent_execution_id].append(one)
    return found


def tree_node(
    top: AgentExecution, children: dict[str, list[AgentExecution]], names: Names, shown: set[str], depth: int = 1
) -> TreeNode:
    """Build the tree of an execution; each execution appears once, even if the stored relations form a cycle."""
    nodes: list[TreeNode] = []
    for one in children.get(top.execution_id, ()) if depth < MAX_TREE_DEPTH else ():
        if one.execution_id not in shown:
            shown.add(one.execution_id)
            nodes.append(tree_node(one, children, names, shown, depth + 1))
    return TreeNode.model_validate({**summary_fields(top, names), "children": nodes})
