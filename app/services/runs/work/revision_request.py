"""Revision requests: a person sends an execution of an ended tree back, and everything above it is redone.

The request is stored on the root in the transaction that makes a process the owner of the tree. The owner turns it into
events, each once, and removes it from the root with the last event; a process that takes the tree over continues there.
"""

from typing import Any

from app.events.types import AgentRetry, ReviewStatusChanged
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus, ReviewStatus
from app.services.runs.work.run_tree import RunTree
from app.services.runs.work.state import REVISION, ExecutionState

UNENDED: JsonObject = {
    "status": ExecutionStatus.RUNNING.value,
    "completedAt": None,
    "stopReason": None,
    "error": None,
    "providerMessage": None,
}


def person_review(name: str, status: ReviewStatus, at: Any, execution: AgentExecution) -> JsonObject:  # noqa: ANN401 - a date
    """What a document keeps of a person's review: the decision, and what the judge had said."""
    gate = execution.quality_gate if isinstance(execution.quality_gate, dict) else {}
    return {
        "status": status.value,
        "name": name,
        "at": at,
        "qualityScore": execution.quality_score,
        "passed": gate.get("passed"),
    }


def chain_of(executions: list[AgentExecution], execution_id: str) -> list[AgentExecution]:
    """An execution and those above it, up to the root."""
    by_id = {one.execution_id: one for one in executions}
    chain: list[AgentExecution] = []
    at: str | None = execution_id
    while at is not None and (one := by_id.pop(at, None)):  # taken out: someone may have stored a circle
        chain.append(one)
        at = one.parent_execution_id
    return chain


def apply_revision_request(tree: RunTree) -> None:
    """Turn the request on the root into events: a review of the execution that it names, and retries above it."""
    revision_request: JsonObject = tree.root.reopening
    for execution in chain_of(list(tree.members), revision_request["executionId"]):
        state = ExecutionState(max_revisions=tree.options.max_revisions)
        for event in tree.stored_events.get(execution.execution_id, ()):
            state.apply(event)
        changes = UNENDED | ({"reopening": None} if execution is tree.root else {})
        if execution.execution_id == revision_request["executionId"]:
            changes |= {"reviewStatus": ReviewStatus.REVISION_NEEDED.value, "reviewNotes": revision_request["notes"]}
            changes |= {"personReview": revision_request["personReview"]}
            told: ReviewStatusChanged | AgentRetry = ReviewStatusChanged(
                agent_id=tree.agent_ids.get(execution.execution_id),
                status=ReviewStatus.REVISION_NEEDED.value,
                notes=revision_request["notes"],
                reviewer={"kind": "person", "name": revision_request["name"]},
                reopens=True,
                retry_count=state.retry_count,
            )
        else:
            told = AgentRetry(
                agent_id=tree.agent_ids.get(execution.execution_id), reason=REVISION, attempt=state.retry_count + 1
            )
        if state.ended or execution is tree.root:
            tree.append_stored(execution, told, **changes)
