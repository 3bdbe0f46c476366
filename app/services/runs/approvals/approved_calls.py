"""Tool calls that a person must approve: the request, the wait, and the check immediately before the call."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from pymongo.errors import PyMongoError

from app.events.log.tree_log import RETRY_FOR_SECONDS, RETRY_PAUSE_SECONDS, TreeLost
from app.events.types import ApprovalDecided, ApprovalRequested
from app.failpoints import failpoint
from app.kit.canonical_json import canonical_digest
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import iso_milliseconds, utc_now
from app.models.approval import Approval, ApprovalStatus, new_approval_id
from app.services.catalog.definitions import ToolDefinition
from app.services.runs.approvals.store import ApprovalStore
from app.services.runs.approvals.writes import request_writes
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.state import OpenToolCall
from app.services.tools.outcomes import ToolFailed
from app.telemetry import gen_ai
from app.telemetry.tracing import FinishedSpan

EVERY_TOOL = "all"
"""The value of a run's `approvals` with which every call waits for a person."""

Found = TypeVar("Found")


def needs_approval(run: ExecutionRun, tool: ToolDefinition, call: OpenToolCall) -> bool:
    """Whether a person must approve a call; one that was asked about stays so, whatever the definitions say now."""
    return (
        call.is_asked
        or tool.requires_approval
        or tool.name in run.agent.approval_tools
        or run.options.approvals == EVERY_TOOL
    )


async def approved_input(run: ExecutionRun, tool: ToolDefinition, call: OpenToolCall) -> JsonObject:
    """Return the input with which a person has approved the call, requesting the approval and waiting for it if
    necessary. If the tool has changed since the approval, a new one is requested.

    Raises:
        ToolFailed: the call was declined, or no one decided in time.
        TreeLost: this process no longer owns the run.
    """
    store = ApprovalStore(run.log.database)
    while True:
        if call.approval_id is None:
            request_approval(run, tool, call)
            await run.log.committed()
        approval = await wait_for_decision(run, call.approval_id or "", store)
        if approval is not None and not call.is_decided:
            run.append(decision_event(run, approval))
            record_wait_span(run, approval)
        tool_input = checked_input(approval, call)
        if approval is None or approval.tool_digest == tool.digest:
            return tool_input
        ensure_not_begun(tool, call)
        call.approval_id = None


def record_wait_span(run: ExecutionRun, approval: Approval) -> None:
    """Record how long a call has waited for its decision."""
    if run.context.trace.is_on:
        facts = {
            gen_ai.TOOL_NAME: approval.tool_name,
            gen_ai.TOOL_CALL_ID: approval.tool_call_id,
            gen_ai.APPROVAL_STATUS: approval.status.value,
        }
        ended = approval.decided_at or utc_now()
        run.context.trace.record(run.id, FinishedSpan("wait_for_approval", approval.requested_at, ended, facts))


def ensure_not_begun(tool: ToolDefinition, call: OpenToolCall) -> None:
    """Refuse a call that another process may have made, unless the tool may run again.

    An approval is for one call: only a tool whose author calls it idempotent is then called a second time.

    Raises:
        ToolFailed: another process may have made the call.
    """
    may_run_again = tool.idempotent if call.is_asked else tool.may_run_again
    if call.is_inherited and not may_run_again:
        raise ToolFailed(
            "outcome-unknown", "The service was interrupted here: whether the call took effect is unknown."
        )


async def ensure_still_approved(run: ExecutionRun, call: OpenToolCall, tool_input: JsonObject) -> None:
    """Read the approval again under the tree's fence; the call with this input must follow at once.

    Raises:
        ToolFailed: the stored approval does not permit the call.
        TreeLost: this process no longer owns the run.
    """
    failpoint("after-decision")
    await run.log.committed()
    store, approval_id = ApprovalStore(run.log.database), call.approval_id or ""
    approval = await until_read(lambda: store.find_under_fence(approval_id, run.log.root_id, run.log.fence))
    if approval is None and await until_read(lambda: store.find(approval_id)) is not None:
        raise TreeLost("Another process has taken this run over.")
    if checked_input(approval, call) != tool_input:
        raise ToolFailed("declined", "The approval is for a different input, so the call was not made.")
    run.log.ensure_owned()


def request_approval(run: ExecutionRun, tool: ToolDefinition, call: OpenToolCall) -> None:
    """Append the request, which stores the approval too."""
    now = utc_now()
    approval = Approval(
        approval_id=new_approval_id(),
        execution_id=run.id,
        root_execution_id=run.log.root_id,
        agent=run.agent.agent_id,
        department=run.agent.department.slug,
        project=run.execution.project,
        tool_name=tool.name,
        tool_version=tool.version or None,
        tool_digest=tool.digest,
        tool_call_id=call.id,
        input=call.input,
        input_digest=canonical_digest(call.input),
        input_schema=clean_json(tool.input_schema),
        requested_at=now,
        expires_at=now + timedelta(seconds=run.context.approval_seconds),
    )
    requested = ApprovalRequested(
        agent_id=run.agent.agent_id,
        approval_id=approval.approval_id,
        tool_call_id=call.id,
        tool_name=tool.name,
        tool_version=approval.tool_version,
        input=call.input,
        input_digest=approval.input_digest,
        expires_at=iso_milliseconds(approval.expires_at),
    )
    run.append_with(request_writes(approval), requested)


async def wait_for_decision(run: ExecutionRun, approval_id: str, store: ApprovalStore) -> Approval | None:
    """Return an approval once it is no longer pending, `None` if it has been removed."""
    approval = await until_read(lambda: store.find(approval_id))
    while approval is not None and approval.status is ApprovalStatus.PENDING:
        with run.waits.awaiting(approval_id) as decided:
            await decided.wait()
        approval = await until_read(lambda: store.find(approval_id))
    return approval


def decision_event(run: ExecutionRun, approval: Approval) -> ApprovalDecided:
    """Return the event of a decision."""
    return ApprovalDecided(
        agent_id=run.agent.agent_id,
        approval_id=approval.approval_id,
        tool_call_id=approval.tool_call_id,
        tool_name=approval.tool_name,
        status=approval.status.value,
        input=approval.input,
        edited_input=approval.edited_input,
        input_digest=approval.input_digest,
        decided_by=approval.decided_by,
        decided_at=iso_milliseconds(approval.decided_at) if approval.decided_at else None,
        message=approval.message,
    )


def checked_input(approval: Approval | None, call: OpenToolCall) -> JsonObject:
    """Return the input that was approved for a call.

    Raises:
        ToolFailed: it was declined, it expired, or its approval has been removed or changed in the database.
    """
    if approval is None:
        raise ToolFailed("declined", "The request for approval has been removed, so the call was not made.")
    if approval.status is ApprovalStatus.EXPIRED:
        raise ToolFailed("approval-expired", "No one approved this call in time, so it was not made.")
    if approval.status is not ApprovalStatus.APPROVED:
        raise ToolFailed("declined", approval.message or "A person declined this call, so it was not made.")
    if approval.input_digest != canonical_digest(call.input) or approval.tool_call_id != call.id:
        raise ToolFailed("declined", "The approval is for a different call, so this one was not made.")
    return clean_json(call.input if approval.edited_input is None else approval.edited_input)


async def until_read(read: Callable[[], Awaitable[Found]]) -> Found:
    """Return the result of a read, repeating it while the database may recover.

    Raises:
        TreeLost: the database did not answer for too long.
    """
    deadline = asyncio.get_running_loop().time() + RETRY_FOR_SECONDS
    while True:
        try:
            return await read()
        except PyMongoError:
            if asyncio.get_running_loop().time() > deadline:
                raise TreeLost("The database did not answer for too long.") from None
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
