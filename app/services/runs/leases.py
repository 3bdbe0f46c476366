"""Who runs a tree: leases by the database's clock, and the fence that locks out whoever lost one."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.agent_execution import AgentExecution, Lease
from app.models.database import Database, Raw

LEASE_SECONDS = 15
RENEW_EVERY_SECONDS = 4.0
NOBODY = ""
"""The owner of a tree that its process handed over; taking it up is no take-over."""


@dataclass
class Leases:
    """The leases that this process holds under its `owner` name."""

    database: Database
    owner: str
    _clock_offset: float | None = field(default=None, init=False)

    async def read_clock(self) -> None:
        """Learn the database's clock, so that this machine's own may be wrong or jump."""
        hello: Raw = await self.database.command("hello")
        self._clock_offset = hello["localTime"].timestamp() - asyncio.get_running_loop().time()

    def server_now(self) -> datetime:
        """The database's time, by this process's monotonic clock."""
        if self._clock_offset is None:
            raise RuntimeError("read_clock comes first")
        return datetime.fromtimestamp(asyncio.get_running_loop().time() + self._clock_offset, UTC)

    def new_lease(self) -> Lease:
        """The lease with which an execution is created by the process that will run it."""
        return Lease(owner=self.owner, until=self.server_now() + timedelta(seconds=LEASE_SECONDS))

    async def renew(self, root_ids: list[str]) -> None:
        """Hold on to trees that are still this process's own."""
        extended = {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_SECONDS}}
        await self._executions.update_many(
            {"executionId": {"$in": root_ids}, "lease.owner": self.owner}, [{"$set": {"lease.until": extended}}]
        )

    async def hand_over(self, root_ids: list[str]) -> None:
        """Let another process take these trees at once."""
        await self._executions.update_many(
            {"executionId": {"$in": root_ids}, "lease.owner": self.owner},
            [{"$set": {"lease": {"owner": NOBODY, "until": "$$NOW"}}}],
        )

    async def find_expired(self, limit: int) -> list[str]:
        """Roots whose owner let its lease run out, the oldest first."""
        found = self._executions.find({"lease.until": {"$lt": self.server_now()}}, {"executionId": 1})
        return [document["executionId"] async for document in found.sort("lease.until").limit(limit)]

    async def take_over(self, root_id: str) -> AgentExecution | None:
        """Become the owner of a tree whose lease ran out; `None` when somebody else was faster.

        One transaction raises the fence on all its documents, so that every write of the old owner misses from one
        moment on, and what it stored stays a prefix.
        """
        async with self.database.client.start_session() as session:
            raw = await session.with_transaction(lambda active: self._raise_fence(active, root_id))
        return AgentExecution.model_validate(raw) if raw else None

    async def _raise_fence(self, session: AsyncClientSession, root_id: str) -> Raw | None:
        root: Raw | None = await self._executions.find_one_and_update(
            {"executionId": root_id, "$expr": {"$lt": ["$lease.until", "$$NOW"]}, "lease": {"$type": "object"}},
            [
                {
                    "$set": {
                        "fence": {"$add": ["$fence", 1]},
                        "takeovers": {"$add": ["$takeovers", {"$cond": [{"$eq": ["$lease.owner", NOBODY]}, 0, 1]}]},
                        "lease": {
                            "owner": self.owner,
                            "until": {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": LEASE_SECONDS}},
                        },
                    }
                }
            ],
            projection={"events": 0, "runState": 0},
            return_document=True,
            session=session,
        )
        if root is not None:
            await self._executions.update_many(
                {"rootExecutionId": root_id}, {"$set": {"fence": root["fence"]}}, session=session
            )
        return root

    @property
    def _executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[AgentExecution.get_collection_name()]
