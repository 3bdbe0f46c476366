"""The queue of run trees without an owner; MongoDB orders it each time a process takes from it.

Trees that have been started before come first. Then the department's priority decides (1 before 10; each minute of
waiting makes up for one step), then the number of the project's active runs and runs ahead in the queue, fewest first.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.expressions import number_in, relation_in
from app.database.transactions import in_transaction
from app.models.agent_execution import AgentExecution
from app.models.base import Relation
from app.services.runs.engine.leases import NOBODY, Leases, validated

MAX_CANDIDATES = 512
DEFAULT_PRIORITY = 5
SLOTS = "run-slots"
"""The collection with one document per department; claims write to it, so that concurrent claims conflict."""


@dataclass(frozen=True)
class WaitingRun:
    """A root that can be taken; `place` is its rank among those of the same project and priority.

    `since` is when its wait began; `was_owned` says whether a process that ran it has died.
    """

    root_id: str
    project: Relation | None
    department: Relation | None
    begun: bool
    priority: float
    place: int
    since: datetime
    was_owned: bool


@dataclass(frozen=True)
class RunQueue:
    """Finds and takes waiting runs; `per_department` bounds the runs of a department over all processes."""

    database: Database
    leases: Leases
    per_department: int | None = None

    async def find_waiting(self) -> list[WaitingRun]:
        """Return the roots without an owner, in the order in which they should be taken."""
        now = self.leases.server_now()
        full = [] if self.per_department is None else await self._full_departments(self.per_department)
        cursor = await self._executions.aggregate(waiting_pipeline(now, full))
        waiting = [
            WaitingRun(
                root_id=raw["executionId"],
                project=raw.get("project"),
                department=raw.get("department"),
                begun=raw["begun"],
                priority=raw["rank"],
                place=raw["place"],
                since=raw["since"],
                was_owned=raw["wasOwned"],
            )
            async for raw in cursor
        ]
        running = await self._count_running(now) if len(waiting) > 1 else Counter[Relation | None]()
        return sorted(waiting, key=lambda run: (not run.begun, run.priority, running[run.project] + run.place))

    async def count_waiting(self) -> int:
        """Return the number of roots without an owner."""
        return await self._executions.count_documents(without_owner(self.leases.server_now()))

    async def take(self, run: WaitingRun) -> AgentExecution | None:
        """Become the owner of a root; returns `None` if another process was faster or its department has no room."""
        if self.per_department is None or run.begun or run.department is None:
            return await self.leases.take_over(run.root_id)
        return await self._take_within_limit(run.root_id, run.department, self.per_department)

    async def _take_within_limit(self, root_id: str, department: Relation, limit: int) -> AgentExecution | None:
        async def claim(session: AsyncClientSession) -> Raw | None:
            slot = {"_id": department}
            await self.database[SLOTS].update_one(slot, {"$inc": {"claims": 1}}, upsert=True, session=session)
            has_room = await self._count_of(department, session) < limit
            return await self.leases.take_waiting(root_id, session) if has_room else None

        if await self._count_of(department, None) >= limit:
            return None
        return validated(await in_transaction(self.database, claim))

    async def _count_of(self, department: Relation, session: AsyncClientSession | None) -> int:
        """Return the number of active runs of a department, in all processes."""
        return await self._executions.count_documents({**self._held, "department": department}, session=session)

    async def _full_departments(self, limit: int) -> list[Relation]:
        """Return the departments without room, whose waiting runs must not hide those of others."""
        grouped = {"$group": {"_id": relation_in("$department"), "count": {"$sum": 1}}}
        stages = [{"$match": self._held}, grouped, {"$match": {"count": {"$gte": limit}, "_id": {"$ne": None}}}]
        return [raw["_id"] async for raw in await self._executions.aggregate(stages)]

    @property
    def _held(self) -> Raw:
        return {"lease.until": {"$gte": self.leases.server_now()}, "lease.owner": {"$ne": NOBODY}}

    async def _count_running(self, now: datetime) -> Counter[Relation | None]:
        """Return the number of active runs of each project, in all processes."""
        held = {"$match": {"lease.until": {"$gte": now}}}
        grouped = {"$group": {"_id": relation_in("$project"), "count": {"$sum": 1}}}
        cursor = await self._executions.aggregate([held, grouped])
        return Counter({raw["_id"]: raw["count"] async for raw in cursor})

    @property
    def _executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)


def without_owner(now: datetime) -> Raw:
    """Return the filter of the roots without an owner."""
    return {"lease.until": {"$exists": True, "$not": {"$gte": now}}, "executionId": {"$type": "string"}}


def waiting_pipeline(now: datetime, full: list[Relation]) -> list[Raw]:
    """Return the aggregation that ranks the waiting runs; `full` are departments without room.

    The lease of a queued root expired when its wait began. A damaged value ranks like a missing one, so a damaged root
    is taken and ended, and does not block the others.
    """
    since = {"$cond": [{"$eq": [{"$type": "$lease.until"}, "date"]}, "$lease.until", now]}
    minutes = {"$dateDiff": {"startDate": since, "endDate": now, "unit": "minute"}}
    fields = {
        "executionId": 1,
        "project": relation_in("$project"),
        "department": relation_in("$department"),
        "since": since,
        "begun": {"$or": [{"$eq": ["$status", "running"]}, {"$ne": ["$lease.owner", NOBODY]}]},
        "wasOwned": {"$ne": ["$lease.owner", NOBODY]},
        "rank": {"$subtract": [number_in("$priority", DEFAULT_PRIORITY), minutes]},
    }
    peers = {"project": "$project", "rank": "$rank"}
    place = {"partitionBy": peers, "sortBy": {"since": 1}, "output": {"place": {"$documentNumber": {}}}}
    return [
        {"$match": without_owner(now)},
        {"$project": fields},
        {"$match": {"$or": [{"begun": True}, {"department": {"$nin": full}}]}},
        {"$setWindowFields": place},
        {"$sort": {"begun": -1, "rank": 1, "place": 1}},
        {"$limit": MAX_CANDIDATES},
    ]
