"""The writes to approvals that are stored in one transaction with an event of their tree."""

from collections.abc import Iterable

from pymongo import InsertOne, UpdateMany

from app.database.connection import Raw
from app.events.log.log_rows import SideWrite
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution
from app.models.approval import Approval, ApprovalStatus

NO_LONGER_WAITS: Raw = {"$set": {"waitingFor": {"$cond": [{"$eq": ["$waitingFor", []]}, "$$REMOVE", "$waitingFor"]}}}


def request_writes(approval: Approval) -> list[SideWrite]:
    """Return the writes that store a new approval, and that its execution and root wait for it."""
    waiting = [approval.execution_id, approval.root_execution_id]
    added: Raw = {"$addToSet": {"waitingFor": approval.approval_id}}
    return [
        SideWrite(Approval.get_collection_name(), InsertOne(approval.as_stored())),
        SideWrite(AgentExecution.get_collection_name(), UpdateMany({"executionId": {"$in": waiting}}, added)),
    ]


def cancel_writes(approval_ids: Iterable[str], execution_ids: Iterable[str]) -> list[SideWrite]:
    """Return the writes that cancel those approvals that are still pending, so that executions no longer wait for
    them."""
    ids = list(approval_ids)
    if not ids:
        return []
    cancelled: Raw = {"$set": {"status": ApprovalStatus.CANCELLED.value, "decidedAt": utc_now()}}
    pending = {"approvalId": {"$in": ids}, "status": ApprovalStatus.PENDING.value}
    waiting = {"executionId": {"$in": list(execution_ids)}}
    return [
        SideWrite(Approval.get_collection_name(), UpdateMany(pending, cancelled)),
        SideWrite(
            AgentExecution.get_collection_name(),
            UpdateMany(waiting, without(ids)),
        ),
    ]


def tree_cancel_writes(root_id: str) -> list[SideWrite]:
    """Return the writes that cancel every pending approval of a tree."""
    cancelled: Raw = {"$set": {"status": ApprovalStatus.CANCELLED.value, "decidedAt": utc_now()}}
    pending = {"rootExecutionId": root_id, "status": ApprovalStatus.PENDING.value}
    waiting = {"rootExecutionId": root_id, "waitingFor": {"$exists": True}}
    return [
        SideWrite(Approval.get_collection_name(), UpdateMany(pending, cancelled)),
        SideWrite(AgentExecution.get_collection_name(), UpdateMany(waiting, {"$unset": {"waitingFor": ""}})),
    ]


def without(approval_ids: list[str]) -> list[Raw]:
    """Return the update that ends an execution's wait for these approvals."""
    others = {"$not": [{"$in": ["$$this", {"$literal": approval_ids}]}]}
    stored = {"$cond": [{"$isArray": "$waitingFor"}, "$waitingFor", []]}
    return [{"$set": {"waitingFor": {"$filter": {"input": stored, "cond": others}}}}, NO_LONGER_WAITS]
