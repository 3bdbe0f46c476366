"""The queue of run trees that nobody runs: its order is decided in MongoDB, when somebody with room takes from it.

First come trees that were begun. Then the department's priority decides (1 before 10; each minute of waiting makes up
for one step), and among equals the project that has the fewest runs under way, counting those that would go first.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database, Raw
from app.database.expressions import number_in, relation_in
from app.database.transactions import in_transaction
from app.models.agent_execution import AgentExecution
from app.models.base import Relation
from app.services.runs.engine.leases import NOBODY, Leases, validated

MAX_CANDIDATES = 512
DEFAULT_PRIORITY = 5
SLOTS = "run-slots"
"""A document for each department, which claims of its runs touch so that of two at once one sees the other."""


@dataclass(frozen=True)
class Waiting:
    """A root that can be taken; `place` is its number among those of its project and priority."""

    root_id: str
    project: Relation | None
    department: Relation | None
    begun: bool
    priority: float
    place: int


@dataclass(frozen=True)
class RunQueue:
    """What waits, and taking from it; `per_department` bounds the runs of a department over all processes."""

    database: Database
    leases: Leases
    per_department: int | None = None

    async def find_waiting(self) -> list[Waiting]:
        """Roots that nobody runs, in the order in which they should be taken."""
        now = self.leases.server_now()
        full = [] if self.per_department is None else await self._full_departments(self.per_department)
        cursor = await self._executions.aggregate(waiting_pipeline(now, full))
        waiting = [
            Waiting(
                root_id=raw["executionId"],
                project=raw.get("project"),
                department=raw.get("department"),
                begun=raw["begun"],
                priority=raw["rank"],
                place=raw["place"],
            )
            async for raw in cursor
        ]
        running = await self._count_running(now) if len(waiting) > 1 else Counter[Relation | None]()
        return sorted(waiting, key=lambda one: (not one.begun, one.priority, running[one.project] + one.place))

    async def take(self, one: Waiting) -> AgentExecution | None:
        """Become the owner of a root; `None` when somebody was faster, or its department has no room."""
        if self.per_department is None or one.begun or one.department is None:
            return await self.leases.take_over(one.root_id)
        return await self._take_within_limit(one.root_id, one.department, self.per_department)

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
        """How many runs of a department are under way, in all processes."""
        return await self._executions.count_documents({**self._held, "department": department}, session=session)

    async def _full_departments(self, limit: int) -> list[Relation]:
        """Those that have no room: what waits for them keeps nobody else from being looked at."""
        grouped = {"$group": {"_id": relation_in("$department"), "count": {"$sum": 1}}}
        stages = [{"$match": self._held}, grouped, {"$match": {"count": {"$gte": limit}, "_id": {"$ne": None}}}]
        return [raw["_id"] async for raw in await self._executions.aggregate(stages)]

    @property
    def _held(self) -> Raw:
        return {"lease.until": {"$gte": self.leases.server_now()}, "lease.owner": {"$ne": NOBODY}}

    async def _count_running(self, now: datetime) -> Counter[Relation | None]:
        """How many runs of each project are under way, in all processes."""
        held = {"$match": {"lease.until": {"$gte": now}}}
        grouped = {"$group": {"_id": relation_in("$project"), "count": {"$sum": 1}}}
        cursor = await self._executions.aggregate([held, grouped])
        return Counter({raw["_id"]: raw["count"] async for raw in cursor})

    @property
    def _executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[AgentExecution.get_collection_name()]


def waiting_pipeline(now: datetime, full: list[Relation]) -> list[Raw]:
    """The aggregation that ranks what waits and could be taken; `full` are departments that have no room.

    A lease that was left to the queue ran out when the wait began.

    What is damaged, be it the lease's end, ranks as if nothing were said, so that it is taken up and ended, and keeps
    nobody from the others.
    """
    since = {"$cond": [{"$eq": [{"$type": "$lease.until"}, "date"]}, "$lease.until", now]}
    minutes = {"$dateDiff": {"startDate": since, "endDate": now, "unit": "minute"}}
    fields = {
        "executionId": 1,
        "project": relation_in("$project"),
        "department": relation_in("$department"),
        "since": since,
        "begun": {"$or": [{"$eq": ["$status", "running"]}, {"$ne": ["$lease.owner", NOBODY]}]},
        "rank": {"$subtract": [number_in("$priority", DEFAULT_PRIORITY), minutes]},
    }
    peers = {"project": "$project", "rank": "$rank"}
    place = {"partitionBy": peers, "sortBy": {"since": 1}, "output": {"place": {"$documentNumber": {}}}}
    return [
        {"$match": {"lease.until": {"$exists": True, "$not": {"$gte": now}}, "executionId": {"$type": "string"}}},
        {"$project": fields},
        {"$match": {"$or": [{"begun": True}, {"department": {"$nin": full}}]}},
        {"$setWindowFields": place},
        {"$sort": {"begun": -1, "rank": 1, "place": 1}},
        {"$limit": MAX_CANDIDATES},
    ]
