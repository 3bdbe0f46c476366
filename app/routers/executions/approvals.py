"""Approvals: tool calls that are waiting for a person's decision."""

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query

from app.dependencies import DEFAULT_PAGE, ApprovalQueriesDep, ApprovalsDep, Cursor, Limit, RunnerRole, ViewerRole
from app.kit.paging import PageRequest
from app.kit.schemas import ObjectIdStr
from app.models.approval import ApprovalStatus
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import ApprovalIdPath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.lifecycle.approvals import DecisionCreate
from app.services.runs.queries.approvals import ApprovalFilter, ApprovalRead

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/approvals", tags=["approvals"], route_class=StrictRoute)

ApprovalSort = Literal["requestedAt", "-requestedAt"]
Name = Annotated[str | None, Query(max_length=200)]


@router.get(
    "",
    operation_id="listApprovals",
    response_description="The approvals of the page.",
    responses=problem_responses(403),
)
async def list_approvals(
    approvals: ApprovalQueriesDep,
    caller: ViewerRole,
    status: Annotated[ApprovalStatus | None, Query(description="The status of the approvals.")] = None,
    project: Annotated[ObjectIdStr | None, Query(description="The id of a CMS project.")] = None,
    agent: Annotated[Name, Query(description="An agent's id.")] = None,
    department: Annotated[Name, Query(description="A department's slug.")] = None,
    tool_name: Annotated[Name, Query(alias="toolName", description="The name of a tool.")] = None,
    execution_id: Annotated[
        Name, Query(alias="executionId", description="The execution that requested the call.")
    ] = None,
    root_execution_id: Annotated[
        Name, Query(alias="rootExecutionId", description="The id of the root of a run tree.")
    ] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[ApprovalSort, sort_query(requestedAt="the request")] = "-requestedAt",
) -> PageRead[ApprovalRead]:
    """List approvals, latest first by default. `status=pending` lists the calls that are waiting for a decision."""
    wanted = ApprovalFilter(
        status=status,
        project=project,
        agent=agent,
        department=department,
        tool_name=tool_name,
        execution_id=execution_id,
        root_execution_id=root_execution_id,
    )
    return PageRead[ApprovalRead].of(await approvals.list_approvals(wanted, PageRequest(limit, sort, cursor), caller))


@router.get(
    "/{approval_id}",
    operation_id="getApproval",
    response_description="The approval.",
    responses=problem_responses(403, 404),
)
async def get_approval(approval_id: ApprovalIdPath, approvals: ApprovalQueriesDep, caller: ViewerRole) -> ApprovalRead:
    """Read an approval with the exact input of its call."""
    return ApprovalRead.of(await approvals.get_approval(approval_id, caller))


@router.post(
    "/{approval_id}/decision",
    operation_id="decideApproval",
    response_description="The decided approval.",
    responses=problem_responses(*BODY_PROBLEMS, 403, 404, 409),
)
async def decide_approval(
    approval_id: ApprovalIdPath, body: DecisionCreate, approvals: ApprovalsDep, caller: RunnerRole
) -> ApprovalRead:
    """Approve or decline a tool call. The first decision is final, and the run continues.

    An approved call is made once, with exactly the approved `input`, or with the edited one that the decision contains.
    A declined call is not made: the model receives the error `declined` with the `message`.
    """
    decided = await approvals.decide(approval_id, body, caller)
    log.info("approval-decided", approvalId=approval_id, status=decided.status, executionId=decided.execution_id)
    return decided
