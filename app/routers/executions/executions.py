"""Executions: the audit record of every run, its events and its tree."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BeforeValidator

from app.dependencies import DEFAULT_PAGE, Cursor, ExecutionQueriesDep, Limit, ViewerRole
from app.kit.paging import PageRequest
from app.kit.schemas import ObjectIdStr
from app.models.agent_execution import ExecutionKind, ExecutionStatus, ReviewStatus
from app.routers.http.omitted_fields import Omit, without
from app.routers.http.pages import PageRead, answer_large_page
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.queries.executions import ExecutionFilter, ExecutionRead, ExecutionSummary, TreeNode

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


def as_iso_text(value: object) -> object:
    """A time as people write it; a bare number could be seconds or milliseconds."""
    if isinstance(value, str) and not ISO_DATE.match(value):
        raise ValueError("must be a time in ISO 8601, such as 2026-01-31T12:00:00Z")
    return value


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is taken for UTC."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 of UTC") from None


Moment = Annotated[datetime, BeforeValidator(as_iso_text), AfterValidator(in_utc)]
ExecutionSort = Literal["startedAt", "-startedAt", "createdAt", "-createdAt"]
Name = Annotated[str | None, Query(max_length=200)]


@router.get(
    "", operation_id="listExecutions", response_model=PageRead[ExecutionSummary], responses=problem_responses(403)
)
async def list_executions(
    executions: ExecutionQueriesDep,
    caller: ViewerRole,
    project: Annotated[ObjectIdStr | None, Query(description="A CMS project's id.")] = None,
    agent: Name = None,
    department: Name = None,
    status: ExecutionStatus | None = None,
    review_status: Annotated[ReviewStatus | None, Query(alias="reviewStatus")] = None,
    kind: ExecutionKind | None = None,
    root_execution_id: Annotated[Name, Query(alias="rootExecutionId")] = None,
    conversation_id: Annotated[Name, Query(alias="conversationId")] = None,
    started_from: Annotated[Moment | None, Query(alias="from", description="Started at or after this time.")] = None,
    started_to: Annotated[Moment | None, Query(alias="to", description="Started before this time.")] = None,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[ExecutionSort, Query(description="A field; with a minus for the descending order.")] = "-startedAt",
) -> Response:
    """List executions, the latest first."""
    wanted = ExecutionFilter(
        project=project,
        agent=agent,
        department=department,
        status=status,
        review_status=review_status,
        kind=kind,
        root_execution_id=root_execution_id,
        conversation_id=conversation_id,
        started_from=started_from,
        started_to=started_to,
    )
    return await answer_large_page(await executions.list_executions(wanted, PageRequest(limit, sort, cursor), caller))


@router.get("/{execution_id}", operation_id="getExecution", responses=problem_responses(403, 404))
async def get_execution(
    execution_id: str, executions: ExecutionQueriesDep, caller: ViewerRole, omit: Omit = None
) -> ExecutionRead:
    """Read one execution, without its events."""
    return without(await executions.get_execution(execution_id, caller), omit)


@router.get("/{execution_id}/tree", operation_id="getExecutionTree", responses=problem_responses(403, 404))
async def get_execution_tree(execution_id: str, executions: ExecutionQueriesDep, caller: ViewerRole) -> TreeNode:
    """Read an execution with all that it started: status, score and tokens of each."""
    return await executions.get_tree(execution_id, caller)
