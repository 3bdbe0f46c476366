"""Stored approvals: how they are requested, decided, expired and cancelled, each exactly once.

A decision and a release of a waiting tree both write the tree's root, so that if both happen at once, one sees the
other: either the decision finds the tree released and makes it available to the queue, or the owner sees the decision.
"""

from collections.abc import Collection as Ids
from dataclasses import dataclass
from datetime import datetime

from app.database.audit_marks import Actor, add_audit_marks, audit_mark
from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session, transactional
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution
from app.models.approval import Approval, ApprovalStatus
from app.models.audit import AuditAction
from app.services.runs.approvals.errors import (
    ApprovalAlreadyDecided,
    ApprovalCancelled,
    ApprovalChanged,
    ApprovalExpired,
    ApprovalNotFound,
)
from app.services.runs.approvals.writes import without
from app.services.runs.engine.leases import NOBODY, UNFINISHED

MAX_EXPIRED_AT_ONCE = 100
IS_RELEASED = {"$eq": [{"$type": "$waitingSince"}, "date"]}
"""Whether a root waits without an owner."""
AVAILABLE: Raw = {"owner": NOBODY, "until": {"$dateSubtract": {"startDate": "$$NOW", "unit": "second", "amount": 1}}}
"""The lease of a tree that waits in the queue."""


@dataclass(frozen=True)
class Decision:
    """A person's decision on an approval; `edited_input` replaces the input of an approved call."""

    status: ApprovalStatus
    input_digest: str
    decided_by: JsonObject
    message: str | None = None
    edited_input: JsonObject | None = None


@dataclass(frozen=True)
class ApprovalStore:
    """Reads approvals, and changes each from `pending` once."""

    database: Database

    async def find(self, approval_id: str) -> Approval | None:
        """Return an approval, if it exists."""
        raw = await self._approvals.find_one({"approvalId": approval_id})
        return Approval.model_validate(raw) if raw else None

    async def find_pending(self, approval_ids: Ids[str]) -> set[str]:
        """Return the given approvals that no one has decided."""
        wanted = {"approvalId": {"$in": list(approval_ids)}, "status": ApprovalStatus.PENDING.value}
        return {raw["approvalId"] async for raw in self._approvals.find(wanted, {"approvalId": 1})}

    async def find_under_fence(self, approval_id: str, root_id: str, fence: int) -> Approval | None:
        """Return an approval as it is stored now, if the tree still has this fence: its owner has not changed."""
        guard: list[Raw] = [{"$match": {"fence": fence, "cancelRequested": {"$ne": True}}}, {"$project": {"_id": 1}}]
        root = {
            "from": AgentExecution.get_collection_name(),
            "localField": "rootExecutionId",
            "foreignField": "executionId",
            "pipeline": guard,
            "as": "owned",
        }
        wanted = {"approvalId": approval_id, "rootExecutionId": root_id}
        stages: list[Raw] = [{"$match": wanted}, {"$lookup": root}, {"$match": {"owned": {"$ne": []}}}]
        async with await self._approvals.aggregate(stages) as found:
            raws = await found.to_list()
        return Approval.model_validate(raws[0]) if raws else None

    @transactional
    async def decide(self, session: Session, approval_id: str, decision: Decision, now: datetime) -> Approval:
        """Store a decision, and make a tree that waits without an owner available; returns the approval.

        Raises:
            ApprovalNotFound: there is no such approval.
            ApprovalChanged: the decision is for a different input.
            ApprovalAlreadyDecided, ApprovalExpired, ApprovalCancelled: it no longer waits for a decision.
        """
        raw = await self._approvals.find_one({"approvalId": approval_id}, session=session)
        if raw is None:
            raise ApprovalNotFound(approval_id)
        approval = Approval.model_validate(raw)
        refuse_final(approval)
        if approval.expires_at <= now:
            raise ApprovalExpired(approval_id)
        if decision.input_digest != approval.input_digest:
            raise ApprovalChanged(approval_id)
        if not await self._continue_tree(approval, session):
            raise ApprovalCancelled(approval_id)
        changes = {
            "status": decision.status.value,
            "decidedAt": now,
            "decidedBy": decision.decided_by,
            "message": decision.message,
            "editedInput": decision.edited_input,
        }
        await add_audit_marks(self.database, [decision_mark(approval, decision)], session)
        return await self._close(approval, changes, session)

    async def expire_due(self, now: datetime) -> list[str]:
        """End pending approvals whose time is over; returns the roots of their trees."""
        due = {"status": ApprovalStatus.PENDING.value, "expiresAt": {"$lte": now}}
        found = self._approvals.find(due, {"approvalId": 1}).sort("expiresAt").limit(MAX_EXPIRED_AT_ONCE)
        expired = [await self._expire(raw["approvalId"], now) async for raw in found]
        return [root_id for root_id in expired if root_id is not None]

    @transactional
    async def _expire(self, session: Session, approval_id: str, now: datetime) -> str | None:
        """End one approval, and make its tree available; returns the root, or `None` if someone else was faster."""
        pending = {"approvalId": approval_id, "status": ApprovalStatus.PENDING.value}
        raw = await self._approvals.find_one(pending, session=session)
        if raw is None:
            return None
        approval = Approval.model_validate(raw)
        is_open = await self._continue_tree(approval, session)
        status = ApprovalStatus.EXPIRED if is_open else ApprovalStatus.CANCELLED
        await self._close(approval, {"status": status.value, "decidedAt": now}, session)
        return approval.root_execution_id

    async def _continue_tree(self, approval: Approval, session: Session) -> bool:
        """Record that nothing waits for an approval anymore; return whether its tree can continue.

        A tree that waits without an owner becomes available to the queue.
        """
        gone = without([approval.approval_id])
        lease = {"lease": {"$cond": [IS_RELEASED, AVAILABLE, "$lease"]}}
        root = {
            "executionId": approval.root_execution_id,
            "status": {"$in": UNFINISHED},
            "cancelRequested": {"$ne": True},
        }
        if approval.execution_id != approval.root_execution_id:
            await self._executions.update_one({"executionId": approval.execution_id}, gone, session=session)
        return (await self._executions.update_one(root, [*gone, {"$set": lease}], session=session)).matched_count == 1

    async def _close(self, approval: Approval, changes: JsonObject, session: Session) -> Approval:
        setting = {name: value for name, value in changes.items() if value is not None}
        pending = {"approvalId": approval.approval_id, "status": ApprovalStatus.PENDING.value}
        closed: Raw | None = await self._approvals.find_one_and_update(
            pending, {"$set": setting}, return_document=True, session=session
        )
        assert closed is not None  # noqa: S101 - the same transaction has read it
        return Approval.model_validate(closed)

    async def release(self, root_id: str, fence: int, owner: str, awaited: Ids[str]) -> bool:
        """Give up the lease on a tree in which everything waits for these approvals; returns whether the tree waits.

        If one of them has been decided meanwhile, the tree is available to the queue at once, like one that has waited.
        """
        stored = {"$cond": [{"$isArray": "$waitingFor"}, "$waitingFor", []]}
        waits = {"$setIsSubset": [{"$literal": list(awaited)}, stored]}
        released: Raw = {
            "lease": {"$cond": [waits, None, AVAILABLE]},
            "waitingSince": "$$NOW",
        }
        owned = {"executionId": root_id, "fence": fence, "lease.owner": owner}
        root: Raw | None = await self._executions.find_one_and_update(
            owned, [{"$set": released}], projection={"lease": 1}, return_document=True
        )
        return root is not None and root.get("lease") is None

    @property
    def _approvals(self) -> Collection:
        return collection_of(self.database, Approval)

    @property
    def _executions(self) -> Collection:
        return collection_of(self.database, AgentExecution)


def decision_mark(approval: Approval, decision: Decision) -> Raw:
    """Return the audit mark of a decision."""
    detail = {
        "status": decision.status.value,
        "toolName": approval.tool_name,
        "executionId": approval.execution_id,
        "inputDigest": approval.input_digest,
        "isEdited": decision.edited_input is not None,
    }
    actor = Actor(str(decision.decided_by.get("type")), str(decision.decided_by.get("name")))
    return audit_mark(AuditAction.APPROVAL_DECIDE, actor, approval.approval_id, detail)


def refuse_final(approval: Approval) -> None:
    """Refuse a decision on an approval that no longer waits for one.

    Raises:
        ApprovalAlreadyDecided, ApprovalExpired, ApprovalCancelled: by its status.
    """
    match approval.status:
        case ApprovalStatus.PENDING:
            return
        case ApprovalStatus.EXPIRED:
            raise ApprovalExpired(approval.approval_id)
        case ApprovalStatus.CANCELLED:
            raise ApprovalCancelled(approval.approval_id)
        case ApprovalStatus.APPROVED | ApprovalStatus.DECLINED:
            raise ApprovalAlreadyDecided(approval.approval_id, approval.status)
