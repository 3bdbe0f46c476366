"""Counting ended executions on their agents and departments, and tool calls on their tools."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from app.models.agent import Agent
from app.models.base import Relation, utc_now
from app.models.custom_tool import CustomTool
from app.models.database import Database
from app.models.department import Department
from app.models.statistics import counting_update
from app.services.runs.execution_run import ExecutionRun

BATCH_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass
class Tally:
    """What ended executions add up to."""

    executions: int = 0
    successes: int = 0
    milliseconds: float = 0

    def add(self, run: ExecutionRun) -> None:
        """Count one more."""
        self.executions += 1
        self.successes += run.failure is None
        self.milliseconds += run.execution.execution_time or 0


@dataclass
class Statistics:
    """Counts what ended, in the background and in batches a moment apart: many short runs share few updates.

    Statistics follow the audit record and are no part of it: a process that dies just before this leaves its
    executions uncounted. Each document is counted up by one atomic update a batch, so runs that end together do not
    queue for the document of the agent that they share.
    """

    database: Database
    _ended: list[ExecutionRun] = field(default_factory=list[ExecutionRun], init=False)
    _writer: asyncio.Task[None] | None = field(default=None, init=False)
    _hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def count(self, runs: Iterable[ExecutionRun]) -> None:
        """Count executions that ended here; returns at once."""
        self._ended += runs
        if self._ended and (self._writer is None or self._writer.done()):
            self._writer = asyncio.create_task(self._write(), name="statistics")

    async def settle(self) -> None:
        """Count at once what is not counted yet, and wait until it is."""
        self._hurry.set()
        if self._writer:
            await self._writer

    async def _write(self) -> None:
        while self._ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), BATCH_SECONDS)
            runs, self._ended = self._ended, []
            try:
                await asyncio.gather(*(self._count_up(document, some) for document, some in updates_for(runs).items()))
            except PyMongoError as error:
                log.warning("executions-not-counted", count=len(runs), error=type(error).__name__)

    async def _count_up(self, collection: str, updates: list[UpdateOne]) -> None:
        if updates:
            await self.database[collection].bulk_write(updates, ordered=False)


def updates_for(runs: list[ExecutionRun]) -> Mapping[str, list[UpdateOne]]:
    """The updates of a batch, by collection."""
    agents: defaultdict[Relation, Tally] = defaultdict(Tally)
    departments: defaultdict[Relation, Tally] = defaultdict(Tally)
    calls: Counter[str] = Counter()
    for run in runs:
        agents[run.agent.id].add(run)
        departments[run.agent.department.id].add(run)
        calls.update(call["function"]["name"] for turn in run.state.turns for call in turn.get("tool_calls", ()))
    used: dict[str, Any] = {"lastUsedAt": utc_now()}
    return {
        Agent.get_collection_name(): [
            UpdateOne({"_id": one}, counting_update(tally.executions, tally.milliseconds, tally.successes))
            for one, tally in agents.items()
        ],
        Department.get_collection_name(): [
            UpdateOne({"_id": one}, counting_update(tally.executions, tally.milliseconds))
            for one, tally in departments.items()
        ],
        CustomTool.get_collection_name(): [
            UpdateOne({"toolName": name}, {"$inc": {"totalExecutions": count}, "$set": used})
            for name, count in calls.items()
        ],
    }
