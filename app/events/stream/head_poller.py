"""The poller of followed trees' heads, which finds events of other processes without a message from them."""

import asyncio
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.stream.bus import Heads, Moved
from app.kit.json_limits import MAX_INTEGER
from app.kit.json_values import JsonObject
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution

LOOK_EVERY_SECONDS = 0.2
REST_RATIO = 10
"""The ratio of the pause to the duration of the query before it: thousands of followed trees are polled less often."""

GONE = MAX_INTEGER
"""The head of a tree that no longer exists: its followers look for it and receive the error."""

log = structlog.get_logger(__name__)


@dataclass
class HeadPoller:
    """Notifies buffers of progress in trees that run elsewhere, with one query for all of them."""

    database: Database
    bus: Heads
    _known: dict[str, int] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Poll at the bus's interval until the process ends."""
        loop = asyncio.get_running_loop()
        next_at = 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if loop.time() < next_at:
                continue
            started = loop.time()
            try:
                await self.poll()
            except PyMongoError as error:
                log.debug("head-poll-failed", error=type(error).__name__)
            except Exception:
                log.exception("head-poll-crashed")
            next_at = max(started + self.bus.poll_seconds, loop.time() + (loop.time() - started) * REST_RATIO)

    async def poll(self) -> None:
        """Poll once."""
        unheard = self.bus.unheard()
        ours = [one.root_id for one in unheard if not one.foreign]
        foreign = [one.root_id for one in unheard if one.foreign]
        stored = await self._heads(ours) | await self._foreign_heads(foreign)
        heads = {root_id: stored.get(root_id, GONE) for root_id in (*ours, *foreign)}
        for root_id, last_seq in heads.items():
            if last_seq != self._known.get(root_id):
                self.bus.deliver(Moved(root_id, abs(last_seq)), root_id)
        self._known = heads

    async def _heads(self, root_ids: list[str]) -> dict[str, int]:
        if not root_ids:
            return {}
        pipeline: list[JsonObject] = [
            {"$match": {"rootExecutionId": {"$in": root_ids}}},
            {"$group": {"_id": "$rootExecutionId", "lastSeq": {"$max": "$lastSeq"}}},
        ]
        found = await collection_of(self.database, AgentExecution).aggregate(pipeline)
        return {one["_id"]: one["lastSeq"] or 0 async for one in found}

    async def _foreign_heads(self, root_ids: list[str]) -> dict[str, int]:
        """Return the number of another program's events, negative once the execution has ended."""
        if not root_ids:
            return {}
        fields = {"executionId": 1, "status": 1, "rows": {"$size": {"$ifNull": ["$events", []]}}}
        found = collection_of(self.database, AgentExecution).find({"executionId": {"$in": root_ids}}, fields)
        return {
            one["executionId"]: -one["rows"] if one.get("status") in TERMINAL_STATUSES else one["rows"]
            async for one in found
        }
