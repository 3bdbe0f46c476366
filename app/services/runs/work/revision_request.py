"""Revision requests: a person sends an execution of an ended tree back, and its ancestors redo their work.

The request is stored on the root in the transaction that makes a process the owner of the tree. The owner turns it into
events, each once, and removes it from the root with the last event; a process that takes the tree over continues there.
"""

from datetime import datetime

from app.events.types import AgentRetry, ReviewStatusChanged
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus, ReviewStatus, RevisionRequest, StartedBy
from app.services.runs.work.run_tree import RunTree
from app.services.runs.work.state import REVISION, ExecutionState

UNENDED: JsonObject = {
    "status": ExecutionStatus.RUNNING.value,
    "completedAt": None,
    "stopReason": None,
    "error": None,
    "providerMessage": None,
}


def person_review(
    reviewer: StartedBy, status: ReviewStatus, notes: str, at: datetime, execution: AgentExecution
) -> JsonObject:
    """Return the stored form of a person's review: the decision, and the judge's score and gate at that time."""
    gate = execution.quality_gate if isinstance(execution.quality_gate, dict) else {}
    return {
        "status": status.value,
        "type": reviewer.type,
        "name": reviewer.name,
        "notes": notes,
        "at": at,
        "qualityScore": execution.quality_score,
        "passed": gate.get("passed"),
    }


def chain_of(executions: list[AgentExecution], execution_id: str) -> list[AgentExecution]:
    """Return an execution and its ancestors up to the root."""
    by_id = {execution.execution_id: execution for execution in executions}
    chain: list[AgentExecution] = []
    at: str | None = execution_id
    while at is not None and (execution := by_id.pop(at, None)):  # removed, because stored parents may form a cycle
        chain.append(execution)
        at = execution.parent_execution_id
    return chain


def apply_revision_request(tree: RunTree, request: RevisionRequest) -> None:
    """Turn a tree's revision request into events: a review of the execution it names, and a retry of each ancestor."""
    for execution in chain_of(list(tree.members), request.execution_id):
        state = ExecutionState(max_revisions=tree.options.max_revisions)
        for stored in tree.stored_events.get(execution.execution_id, ()):
            state.apply(stored)
        changes = UNENDED | ({"reopening": None} if execution is tree.root else {})
        agent_id = tree.agent_ids.get(execution.execution_id)
        event: ReviewStatusChanged | AgentRetry
        if execution.execution_id == request.execution_id:
            changes |= request.review_changes
            event = ReviewStatusChanged(
                agent_id=agent_id,
                status=ReviewStatus.REVISION_NEEDED.value,
                notes=request.notes,
                reviewer={"kind": "person", "name": request.name},
                reopens=True,
                retry_count=state.retry_count,
            )
        else:
            changes |= execution.superseded_review
            event = AgentRetry(agent_id=agent_id, reason=REVISION, attempt=state.retry_count + 1)
        if state.ended or execution is tree.root:
            tree.append_stored(execution, event, **changes)
