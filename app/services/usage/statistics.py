"""Counting ended executions on their agents and departments, and tool calls on their tools: each once.

An execution ends with what there is to count in its own document (`uncounted`). One transaction takes that away and
counts it up, so it is counted once whatever dies meanwhile, and whichever process finds it.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from app.database.connection import Database, Raw
from app.database.statistics_updates import counting_update, plus
from app.database.transactions import in_transaction
from app.kit.json_values import JsonObject
from app.models.agent import Agent
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.base import Relation
from app.models.custom_tool import CustomTool
from app.models.department import Department

BATCH_SECONDS = 0.5
BATCH_EXECUTIONS = 500
MAX_COUNTED_TOOLS = 1000
COUNTED_FIELDS = {"agent": 1, "department": 1, "status": 1, "executionTime": 1, "completedAt": 1, "uncounted": 1}

log = structlog.get_logger(__name__)


@dataclass
class Tally:
    """What ended executions add up to; cancelled ones say nothing of an agent's success or pace."""

    executions: int = 0
    finished: int = 0
    successes: int = 0
    milliseconds: float = 0
    last_completed_at: datetime | None = None

    def add(self, ended: Raw) -> None:
        """Count one more."""
        self.executions += 1
        self.last_completed_at = later(self.last_completed_at, ended.get("completedAt"))
        if ended.get("status") == ExecutionStatus.CANCELLED:
            return
        self.finished += 1
        self.successes += ended.get("status") == ExecutionStatus.COMPLETED
        milliseconds = ended.get("executionTime")
        self.milliseconds += milliseconds if isinstance(milliseconds, int | float) else 0


@dataclass
class Statistics:
    """Counts what ended, in the background and in batches a moment apart: many short runs share few updates.

    Each document is counted up by one atomic update a batch, so runs that end together do not queue for the
    document of the agent that they share.
    """

    database: Database
    _writer: asyncio.Task[None] | None = field(default=None, init=False)
    _wanted: bool = field(default=False, init=False)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def count_soon(self) -> None:
        """Something ended, here or in a process that died: count what is not counted yet; returns at once."""
        self._wanted = True
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="statistics")

    async def settle(self) -> None:
        """Count at once what is not counted yet, and wait until it is."""
        self._hurry.set()
        if self._writer:
            await self._writer

    async def _write(self) -> None:
        while self._wanted:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), BATCH_SECONDS)
            self._wanted = False
            try:
                while await self._count_batch():
                    pass
            except PyMongoError as error:
                log.warning("executions-not-counted-yet", error=type(error).__name__)

    async def _count_batch(self) -> bool:
        """Count some executions; whether there may be more."""
        executions = self.database[AgentExecution.get_collection_name()]
        found = executions.find({"uncounted": {"$exists": True}}, COUNTED_FIELDS).limit(BATCH_EXECUTIONS)
        batch = await found.to_list()
        if batch:
            await in_transaction(self.database, lambda active: self._count(active, batch))
        return len(batch) == BATCH_EXECUTIONS

    async def _count(self, session: AsyncClientSession, batch: Sequence[Raw]) -> None:
        """Take the batch's counts out of its documents and count them up; nothing if somebody else began to."""
        ids = [ended["_id"] for ended in batch]
        taken = await self.database[AgentExecution.get_collection_name()].update_many(
            {"_id": {"$in": ids}, "uncounted": {"$exists": True}}, {"$unset": {"uncounted": ""}}, session=session
        )
        if taken.modified_count < len(batch):
            await session.abort_transaction()
            return
        for collection, updates in updates_for(batch).items():
            if updates:
                await self.database[collection].bulk_write(updates, ordered=False, session=session)


def countable(tool_calls: Counter[str]) -> JsonObject:
    """What an execution's end leaves to be counted beside itself: how often it called each tool.

    A model may have made names up without end: the rarest are left out.
    """
    return {"toolCalls": [{"name": name, "count": count} for name, count in tool_calls.most_common(MAX_COUNTED_TOOLS)]}


def updates_for(batch: Sequence[Raw]) -> Mapping[str, list[UpdateOne]]:
    """The updates of a batch, by collection; what is damaged in an execution counts for nobody, and stops no other."""
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
                {"_id": one},
                counting_update(
                    tally.executions, tally.finished, tally.milliseconds, tally.successes, tally.last_completed_at
                ),
            )
            for one, tally in agents.items()
        ],
        Department.get_collection_name(): [
            UpdateOne({"_id": one}, counting_update(tally.executions, tally.finished, tally.milliseconds))
            for one, tally in departments.items()
        ],
        CustomTool.get_collection_name(): [
            UpdateOne({"toolName": name}, [{"$set": tool_counts(count, last_used_at.get(name))}])
            for name, count in calls.items()
        ],
    }


def tool_counts(count: int, last_used_at: datetime | None) -> JsonObject:
    """The fields of a tool after this many calls, the last of them in an execution that ended then."""
    last = {"lastUsedAt": {"$max": ["$lastUsedAt", last_used_at]}} if last_used_at else {}
    return {"totalExecutions": plus("totalExecutions", count), **last}


def later(one: datetime | None, other: Any) -> datetime | None:  # noqa: ANN401 - any stored value
    """The later of two times; what is not a time counts for nothing."""
    if not isinstance(other, datetime):
        return one
    return other if one is None else max(one, other)


def stored_relation(value: Any) -> Relation | None:  # noqa: ANN401 - any stored value
    """The relation that a field holds, if it holds one."""
    return value if isinstance(value, ObjectId | str) else None  # pyright: ignore[reportReturnType] - Beanie's type is an ObjectId


def tool_calls_in(uncounted: Any) -> dict[str, int]:  # noqa: ANN401 - any stored value
    """How often each tool was called, by what an execution's end has left."""
    rows = uncounted.get("toolCalls") if isinstance(uncounted, dict) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {
        row["name"]: row["count"]
        for row in found
        if isinstance(row.get("name"), str) and isinstance(row.get("count"), int)
    }
