"""Leases on run trees, timed by the database's clock, and the fence that rejects writes of a process that lost one."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pymongo
import structlog
from pydantic import ValidationError
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from app.database.audit_marks import mark_insert
from app.database.clock import database_time
from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.expressions import number_in
from app.database.transactions import in_transaction
from app.events.log.log_rows import SideWrite
from app.kit.concurrency import all_of
from app.models.agent_execution import AgentExecution, ExecutionStatus, Lease, RevisionRequest
from app.models.base import stored_name
from app.services.runs.approvals.writes import tree_cancel_writes
from app.services.runs.engine.timings import DEFAULT_TIMINGS, Timings

NOBODY = ""
"""The owner of a tree that waits in the queue or was handed over: taking it does not count as a takeover."""
CLOCK_DOUBT = timedelta(seconds=1)
"""How far another process may lag in its estimate of the database's clock: a queued lease has expired for it too."""
UNFINISHED = [ExecutionStatus.PENDING.value, ExecutionStatus.RUNNING.value]
REVISABLE = [ExecutionStatus.COMPLETED.value, ExecutionStatus.FAILED.value]
IN_DATABASE: Raw = {"archivedAt": None}
"""Matches trees that are not archived: nothing is added to an archived one."""
WITHOUT_BULK: Raw = {"events": 0, "runState": 0}

log = structlog.get_logger(__name__)


@dataclass
class Leases:
    """The leases of this process under its `owner` name; a run may take `run_seconds` from its first claim."""

    database: Database
    owner: str
    run_seconds: float
    timings: Timings = DEFAULT_TIMINGS
    _clock_offset: float | None = field(default=None, init=False)

    async def read_clock(self) -> None:
        """Read the database's clock, so that it does not matter if this machine's clock is wrong or jumps."""
        now = await database_time(self.database)
        self._clock_offset = now.timestamp() - asyncio.get_running_loop().time()

    def server_now(self) -> datetime:
        """Return the database's time, by this process's monotonic clock."""
        if self._clock_offset is None:
            raise RuntimeError("Call read_clock first.")
        return datetime.fromtimestamp(asyncio.get_running_loop().time() + self._clock_offset, UTC)

    def give(self, root: AgentExecution) -> None:
        """Prepare a root that is about to be stored as owned by this process."""
        now = self.server_now()
        root.lease = Lease(owner=self.owner, until=now + timedelta(seconds=self.timings.lease_seconds))
        root.deadline = now + timedelta(seconds=self.run_seconds)

    def leave_to_queue(self, root: AgentExecution) -> None:
        """Prepare a root that is about to be stored as waiting for a process with room."""
        root.lease = Lease(owner=NOBODY, until=self.server_now() - CLOCK_DOUBT)

    def seconds_left(self, root: AgentExecution) -> float:
        """Return how long a run may continue."""
        return (root.deadline - self.server_now()).total_seconds() if root.deadline else self.run_seconds

    async def renew(self, root_ids: list[str], locked: Iterable[str] = ()) -> list[str]:
        """Renew the leases on those of the trees that this process still owns; return the roots that are locked.

        A process killed inside a transaction leaves the documents that it changed locked until MongoDB ends the
        transaction. `locked` are roots that were locked before; they are renewed one by one.

        Raises:
            PyMongoError: the database is unavailable.
        """
        renewed = {"lease.until": seconds_from_now(self.timings.lease_seconds)}
        together = self._set_together({"executionId": {"$in": root_ids}}, renewed)
        found = await all_of([together, self._set_singly(locked, renewed)])
        return [root_id for one in found for root_id in one]

    async def hand_over(self) -> None:
        """Release every tree of this process, so that others can take it at once; locked ones expire.

        Raises:
            PyMongoError: the database is unavailable.
        """
        await self._set_together({"lease.until": {"$exists": True}}, {"lease": UNOWNED})

    async def _set_together(self, selector: Raw, fields: Raw) -> list[str]:
        """Set fields of owned roots in one update, or one by one if a locked root blocks it; return the locked ones."""
        owned = {**selector, "lease.owner": self.owner}
        try:
            with pymongo.timeout(self.timings.answer_seconds):
                await self._executions.update_many(owned, [{"$set": fields}])
        except PyMongoError as error:
            if not error.timeout:
                raise
            log.warning("lease-update-blocked", seconds=self.timings.answer_seconds)
            with pymongo.timeout(self.timings.answer_seconds):
                root_ids = [raw["executionId"] async for raw in self._executions.find(owned, {"executionId": 1})]
            return await self._set_singly(root_ids, fields)
        return []

    async def _set_singly(self, root_ids: Iterable[str], fields: Raw) -> list[str]:
        """Set fields of owned roots one by one, and return those that are locked."""

        async def set_one(root_id: str) -> bool:
            owned = {"executionId": root_id, "lease.owner": self.owner}
            try:
                with pymongo.timeout(self.timings.answer_seconds / 2):
                    await self._executions.update_one(owned, [{"$set": fields}])
            except PyMongoError as error:
                if not error.timeout:
                    raise
                return False
            return True

        wanted = list(root_ids)
        done = await all_of([set_one(root_id) for root_id in wanted])
        return [root_id for root_id, is_set in zip(wanted, done, strict=True) if not is_set]

    async def find_lost(self, fences: Mapping[str, int]) -> list[str]:
        """Return the roots whose fence has changed: another process took them over, or cancelled them."""
        found = self._executions.find({"executionId": {"$in": list(fences)}}, {"_id": 0, "executionId": 1, "fence": 1})
        stored = {raw["executionId"]: raw.get("fence") async for raw in found}
        return [root_id for root_id, fence in fences.items() if stored.get(root_id) != fence]

    async def take_over(self, root_id: str) -> AgentExecution | None:
        """Become the owner of a tree whose lease has expired; returns `None` if another process was faster.

        One transaction raises the fence on all documents of the tree: after it no write of the old owner matches, so
        the stored events stay a prefix of the log.
        """
        held = {"$and": [{"$eq": [{"$type": "$lease.until"}, "date"]}, {"$gte": ["$lease.until", "$$NOW"]}]}
        expired = {"executionId": root_id, "lease": {"$type": "object"}, "$expr": {"$not": [held]}}
        counted = {"$add": [number_in("$takeovers"), {"$cond": [{"$eq": ["$lease.owner", NOBODY]}, 0, 1]}]}
        first = await self.take_waiting(root_id, None)
        return validated(first) or await self._own_tree(expired, {"takeovers": counted})

    async def take_waiting(self, root_id: str, session: AsyncClientSession | None) -> Raw | None:
        """Become the first owner of a queued root: one update, because its tree has no other document yet.

        Raises:
            PyMongoError: the root is locked, or the database is unavailable.
        """
        waiting = {"executionId": root_id, "lease.owner": NOBODY, "status": ExecutionStatus.PENDING.value, "lastSeq": 0}
        return await self._own_root(waiting, {}, session)

    async def cancel(self, root_id: str, mark: Raw | None = None) -> AgentExecution | None:
        """Take ownership of an unfinished tree in order to end it as cancelled; its approvals are cancelled too.

        The transaction also stores the audit mark of the cancel.

        Either this transaction or the run's last write succeeds, never both. Returns `None` if the tree has ended or
        is already being cancelled.
        """
        running = {"executionId": root_id, "rootExecutionId": root_id, "status": {"$in": UNFINISHED}}
        uncancelled = {**running, "cancelRequested": {"$ne": True}}
        writes = [*tree_cancel_writes(root_id), *marking(mark)]
        return await self._own_tree(uncancelled, {"cancelRequested": True}, side_writes=writes)

    async def reopen(
        self,
        root_id: str,
        reopened: list[str],
        revision_request: RevisionRequest,
        mark: Raw | None = None,
        *,
        to_queue: bool = False,
    ) -> AgentExecution | None:
        """Become the owner of an ended tree in order to revise some of its executions, as a person requested.

        With `to_queue`, the tree gets no owner: any process with room can take it at once.

        The same transaction stores the revision request, so the next owner of the tree can apply it, the review, so
        the caller's answer shows it, and the audit mark of the review. Returns `None` if the tree has not ended, was
        cancelled, or is already reopened.
        """
        ended = {"executionId": root_id, "status": {"$in": REVISABLE}, "cancelRequested": {"$ne": True}, **IN_DATABASE}
        limit = seconds_from_now(self.run_seconds)
        changes = {
            "takeovers": 0,
            "deadline": limit,
            "reopening": {"$literal": revision_request.model_dump(by_alias=True)},
            **({"lease": UNOWNED} if to_queue else {}),
        }
        return await self._own_tree(ended, changes, reopened, revision_request, marking(mark))

    async def lock_ended(self, root_id: str) -> AgentExecution | None:
        """Raise the fence of an ended tree for one addition, without a lease; returns `None` if it has not ended."""
        ended = {"executionId": root_id, "status": {"$nin": UNFINISHED}, **IN_DATABASE}
        return await self._own_tree(ended, {"lease": None, "deadline": "$deadline"})

    async def _own_tree(
        self,
        selector: Raw,
        changes: Raw,
        reopened: list[str] | None = None,
        revision_request: RevisionRequest | None = None,
        side_writes: Iterable[SideWrite] = (),
    ) -> AgentExecution | None:
        async def raise_fence(session: AsyncClientSession) -> Raw | None:
            root = await self._own_root(selector, changes, session)
            if root is not None:
                members = {"rootExecutionId": root["executionId"]}
                await self._executions.update_many(members, {"$set": {"fence": root["fence"]}}, session=session)
                if reopened:
                    running = {"$set": {"status": ExecutionStatus.RUNNING.value}}
                    await self._executions.update_many({"executionId": {"$in": reopened}}, running, session=session)
                if revision_request:
                    reviewed = {"executionId": revision_request.execution_id}
                    update = {"$set": revision_request.review_changes}
                    await self._executions.update_one(reviewed, update, session=session)
                for write in side_writes:
                    await self.database[write.collection].bulk_write([write.operation], session=session)
            return root

        return validated(await in_transaction(self.database, raise_fence))

    async def _own_root(self, selector: Raw, changes: Raw, session: AsyncClientSession | None) -> Raw | None:
        lease = {"owner": self.owner, "until": seconds_from_now(self.timings.lease_seconds)}
        is_known = {"$eq": [{"$type": "$deadline"}, "date"]}
        has_waited = {"$eq": [{"$type": "$waitingSince"}, "date"]}
        waited = {"$cond": [has_waited, {"$subtract": ["$$NOW", "$waitingSince"]}, 0]}
        deadline = {"$cond": [is_known, {"$add": ["$deadline", waited]}, seconds_from_now(self.run_seconds)]}
        owned = {
            "fence": {"$add": [number_in("$fence"), 1]},
            "lease": lease,
            "deadline": deadline,
            "resumed": {"$cond": [has_waited, True, "$$REMOVE"]},
            "waitingSince": "$$REMOVE",
            **changes,
        }
        with pymongo.timeout(self.timings.answer_seconds) if session is None else contextlib.nullcontext():
            return await self._executions.find_one_and_update(
                selector, [{"$set": owned}], projection=WITHOUT_BULK, return_document=True, session=session
            )

    @property
    def _executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)


def marking(mark: Raw | None) -> list[SideWrite]:
    """Return the write that stores an audit mark, if there is one."""
    return [] if mark is None else [SideWrite(*mark_insert(mark))]


def seconds_from_now(seconds: float) -> Raw:
    """Return an aggregation expression for a time by the database's clock."""
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(seconds * 1000)}}


def validated(raw: Raw | None) -> AgentExecution | None:
    """Return the execution in a raw document; from a damaged one, only the fields that its owner needs to end it."""
    if raw is None:
        return None
    try:
        return AgentExecution.model_validate(raw)
    except ValidationError:
        kept = {name: raw.get(stored_name(name)) for name in ("execution_id", "fence", "takeovers", "cancel_requested")}
        return AgentExecution.model_construct(root_execution_id=raw["executionId"], **kept)


UNOWNED: Raw = {"owner": NOBODY, "until": seconds_from_now(-CLOCK_DOUBT.total_seconds())}
"""The expression for the lease of a tree that any process may take at once."""
