"""Statistics of agents, departments and tools: each ended execution and each tool call is counted once."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database, Raw
from app.database.statistics_updates import counting_update, plus
from app.events.outbox import ExecutionEnd
from app.kit.json_values import JsonObject
from app.models.agent_execution import ExecutionStatus
from app.models.base import Relation
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department

MAX_COUNTED_TOOLS = 1000


@dataclass
class Tally:
    """Sums over ended executions; cancelled ones do not count for success and duration."""

    executions: int = 0
    finished: int = 0
    successes: int = 0
    milliseconds: float = 0
    last_completed_at: datetime | None = None

    def add(self, ended: Raw) -> None:
        """Count one ended execution."""
        self.executions += 1
        self.last_completed_at = later(self.last_completed_at, ended.get("completedAt"))
        if ended.get("status") == ExecutionStatus.CANCELLED:
            return
        self.finished += 1
        self.successes += ended.get("status") == ExecutionStatus.COMPLETED
        milliseconds = ended.get("executionTime")
        self.milliseconds += milliseconds if isinstance(milliseconds, int | float) else 0


class Statistics:
    """The outbox consumer that counts ended executions on agents and departments, and tool calls on tools.

    A batch updates each document once, so runs that end together do not contend for their agent's document.
    """

    name = "statistics"
    field = "uncounted"
    projection: Mapping[str, int] = {"agent": 1, "department": 1, "status": 1, "executionTime": 1, "completedAt": 1}

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Return the mark of a first end: an execution that was reopened has been counted already."""
        return {self.field: countable(end.tool_calls)} if end.is_first else {}

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Add a batch to the documents that it concerns."""
        for collection, updates in updates_for(batch).items():
            if updates:
                await self._database[collection].bulk_write(updates, ordered=False, session=session)


def countable(tool_calls: Counter[str]) -> JsonObject:
    """Return the mark of an ended execution: how often it called each tool.

    A model can invent any number of tool names, so the rarest are left out.
    """
    return {"toolCalls": [{"name": name, "count": count} for name, count in tool_calls.most_common(MAX_COUNTED_TOOLS)]}


def updates_for(batch: Sequence[Raw]) -> Mapping[str, list[UpdateOne]]:
    """Return the updates of a batch by collection; damaged values of an execution are skipped."""
    agents: defaultdict[Relation | None, Tally] = defaultdict(Tally)
    departments: defaultdict[Relation | None, Tally] = defaultdict(Tally)
    calls: Counter[str] = Counter()
    last_used_at: dict[str, datetime | None] = {}
    for ended in batch:
        agents[stored_relation(ended.get("agent"))].add(ended)
        departments[stored_relation(ended.get("department"))].add(ended)
        made = tool_calls_in(ended["uncounted"])
        calls.update(made)
        last_used_at |= {name: later(last_used_at.get(name), ended.get("completedAt")) for name in made}
    return {
        Agent.get_collection_name(): [
            UpdateOne(
                {"_id": identity},
                counting_update(
                    tally.executions, tally.finished, tally.milliseconds, tally.successes, tally.last_completed_at
                ),
            )
            for identity, tally in agents.items()
        ],
        Department.get_collection_name(): [
            UpdateOne({"_id": identity}, counting_update(tally.executions, tally.finished, tally.milliseconds))
            for identity, tally in departments.items()
        ],
        CustomTool.get_collection_name(): [
            UpdateOne({"toolName": name}, [{"$set": tool_counts(count, last_used_at.get(name))}])
            for name, count in calls.items()
        ],
    }


def tool_counts(count: int, last_used_at: datetime | None) -> JsonObject:
    """Return the update of a tool after `count` calls, the last in an execution that ended at `last_used_at`."""
    last = {"lastUsedAt": {"$max": ["$lastUsedAt", last_used_at]}} if last_used_at else {}
    return {"totalExecutions": plus("totalExecutions", count), **last}


def later(known: datetime | None, other: Any) -> datetime | None:  # noqa: ANN401 - any stored value
    """Return the later of two times; a value that is not a time is ignored."""
    if not isinstance(other, datetime):
        return known
    return other if known is None else max(known, other)


def stored_relation(value: Any) -> Relation | None:  # noqa: ANN401 - any stored value
    """Return the relation in a stored value, if it is one."""
    return value if isinstance(value, ObjectId | str) else None  # pyright: ignore[reportReturnType] - Beanie's type is an ObjectId


def tool_calls_in(uncounted: Any) -> dict[str, int]:  # noqa: ANN401 - any stored value
    """Return how often each tool was called, from the mark of an ended execution."""
    rows = uncounted.get("toolCalls") if isinstance(uncounted, dict) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {
        row["name"]: row["count"]
        for row in found
        if isinstance(row.get("name"), str) and isinstance(row.get("count"), int)
    }
