"""Who runs a tree: leases by the database's clock, and the fence that locks out whoever lost one."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database, Raw
from app.database.expressions import number_in
from app.database.transactions import in_transaction
from app.models.agent_execution import AgentExecution, ExecutionStatus, Lease, RevisionRequest
from app.models.base import stored_name

LEASE_SECONDS = 15
NOBODY = ""
"""The owner of a tree that waits for its turn, or that its process handed over; taking it up is no take-over."""
CLOCK_DOUBT = timedelta(seconds=1)
"""How far behind another process may believe the database's clock; what is left to the queue is in its past too."""
UNFINISHED = [ExecutionStatus.PENDING.value, ExecutionStatus.RUNNING.value]
REVISABLE = [ExecutionStatus.COMPLETED.value, ExecutionStatus.FAILED.value]
WITHOUT_BULK: Raw = {"events": 0, "runState": 0}


@dataclass
class Leases:
    """The leases that this process holds under its `owner` name; a run may take `run_seconds` from its first claim."""

    database: Database
    owner: str
    run_seconds: float
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

    def give(self, root: AgentExecution) -> None:
        """Let an execution be created as this process's own."""
        now = self.server_now()
        root.lease = Lease(owner=self.owner, until=now + timedelta(seconds=LEASE_SECONDS))
        root.deadline = now + timedelta(seconds=self.run_seconds)

    def leave_to_queue(self, root: AgentExecution) -> None:
        """Let an execution be created as one that waits for a process with room."""
        root.lease = Lease(owner=NOBODY, until=self.server_now() - CLOCK_DOUBT)

    def seconds_left(self, root: AgentExecution) -> float:
        """How long a run may go on."""
        return (root.deadline - self.server_now()).total_seconds() if root.deadline else self.run_seconds

    async def renew(self, root_ids: list[str]) -> None:
        """Hold on to trees that are still this process's own."""
        await self._executions.update_many(
            {"executionId": {"$in": root_ids}, "lease.owner": self.owner},
            [{"$set": {"lease.until": seconds_from_now(LEASE_SECONDS)}}],
        )

    async def hand_over(self) -> None:
        """Let other processes take all that this one holds, at once."""
        await self._executions.update_many(
            {"lease.until": {"$exists": True}, "lease.owner": self.owner},
            [{"$set": {"lease": {"owner": NOBODY, "until": seconds_from_now(-CLOCK_DOUBT.total_seconds())}}}],
        )

    async def find_lost(self, fences: Mapping[str, int]) -> list[str]:
        """Which of these roots have another fence by now: somebody took them over, or cancelled them."""
        found = self._executions.find({"executionId": {"$in": list(fences)}}, {"_id": 0, "executionId": 1, "fence": 1})
        stored = {raw["executionId"]: raw.get("fence") async for raw in found}
        return [root_id for root_id, fence in fences.items() if stored.get(root_id) != fence]

    async def take_over(self, root_id: str) -> AgentExecution | None:
        """Become the owner of a tree whose lease ran out; `None` when somebody else was faster.

        One transaction raises the fence on all its documents, so that every write of the old owner misses from one
        moment on, and what it stored stays a prefix.
        """
        held = {"$and": [{"$eq": [{"$type": "$lease.until"}, "date"]}, {"$gte": ["$lease.until", "$$NOW"]}]}
        expired = {"executionId": root_id, "lease": {"$type": "object"}, "$expr": {"$not": [held]}}
        counted = {"$add": [number_in("$takeovers"), {"$cond": [{"$eq": ["$lease.owner", NOBODY]}, 0, 1]}]}
        first = await self.take_waiting(root_id, None)
        return validated(first) or await self._own_tree(expired, {"takeovers": counted})

    async def take_waiting(self, root_id: str, session: AsyncClientSession | None) -> Raw | None:
        """Become the first owner of a root in the queue: one update, for it is alone in its tree."""
        waiting = {"executionId": root_id, "lease.owner": NOBODY, "status": ExecutionStatus.PENDING.value, "lastSeq": 0}
        return await self._own_root(waiting, {}, session)

    async def cancel(self, root_id: str) -> AgentExecution | None:
        """Become the owner of an unfinished tree in order to end it, whoever runs it.

        The same transaction as a take-over, so that exactly one of this and the run's last write happens. `None`
        when it has ended, or somebody cancels it already.
        """
        running = {"executionId": root_id, "rootExecutionId": root_id, "status": {"$in": UNFINISHED}}
        return await self._own_tree({**running, "cancelRequested": {"$ne": True}}, {"cancelRequested": True})

    async def reopen(
        self, root_id: str, reopened: list[str], revision_request: RevisionRequest
    ) -> AgentExecution | None:
        """Become the owner of an ended tree in order to revise some of its executions, as a person requested.

        The same transaction stores the revision request, so the next owner of the tree can apply it. Returns `None` if
        the tree has not ended, was cancelled, or is already reopened.
        """
        ended = {"executionId": root_id, "status": {"$in": REVISABLE}, "cancelRequested": {"$ne": True}}
        limit = seconds_from_now(self.run_seconds)
        changes = {
            "takeovers": 0,
            "deadline": limit,
            "reopening": {"$literal": revision_request.model_dump(by_alias=True)},
        }
        return await self._own_tree(ended, changes, reopened)

    async def lock_ended(self, root_id: str) -> AgentExecution | None:
        """Raise the fence of an ended tree for one addition to it, without a lease; `None` when it has not ended."""
        ended = {"executionId": root_id, "status": {"$nin": UNFINISHED}}
        return await self._own_tree(ended, {"lease": None, "deadline": "$deadline"})

    async def _own_tree(self, selector: Raw, changes: Raw, reopened: list[str] | None = None) -> AgentExecution | None:
        async def raise_fence(session: AsyncClientSession) -> Raw | None:
            root = await self._own_root(selector, changes, session)
            if root is not None:
                members = {"rootExecutionId": root["executionId"]}
                await self._executions.update_many(members, {"$set": {"fence": root["fence"]}}, session=session)
                if reopened:
                    running = {"$set": {"status": ExecutionStatus.RUNNING.value}}
                    await self._executions.update_many({"executionId": {"$in": reopened}}, running, session=session)
            return root

        return validated(await in_transaction(self.database, raise_fence))

    async def _own_root(self, selector: Raw, changes: Raw, session: AsyncClientSession | None) -> Raw | None:
        lease = {"owner": self.owner, "until": seconds_from_now(LEASE_SECONDS)}
        is_known = {"$eq": [{"$type": "$deadline"}, "date"]}
        deadline = {"$cond": [is_known, "$deadline", seconds_from_now(self.run_seconds)]}
        owned = {"fence": {"$add": [number_in("$fence"), 1]}, "lease": lease, "deadline": deadline, **changes}
        return await self._executions.find_one_and_update(
            selector, [{"$set": owned}], projection=WITHOUT_BULK, return_document=True, session=session
        )

    @property
    def _executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        return self.database[AgentExecution.get_collection_name()]


def seconds_from_now(seconds: float) -> Raw:
    """A moment of the database's clock, as an expression."""
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(seconds * 1000)}}


def validated(raw: Raw | None) -> AgentExecution | None:
    """The execution in a raw document, if there is one; of a damaged one, what its owner needs to end it."""
    if raw is None:
        return None
    try:
        return AgentExecution.model_validate(raw)
    except ValidationError:
        kept = {name: raw.get(stored_name(name)) for name in ("execution_id", "fence", "takeovers", "cancel_requested")}
        return AgentExecution.model_construct(root_execution_id=raw["executionId"], **kept)
