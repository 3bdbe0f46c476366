"""Executions: the audit record of every run, and its tree."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BeforeValidator

from app.dependencies import DEFAULT_PAGE, Cursor, ExecutionQueriesDep, Limit, ViewerRole
from app.kit.paging import PageRequest
from app.kit.schemas import Entry, ObjectIdStr
from app.models.agent_execution import ExecutionKind, ExecutionStatus, ReviewStatus
from app.routers.http.entries import answer_entry
from app.routers.http.omitted_fields import Omit, without
from app.routers.http.pages import PageRead, answer_large_page, sort_query
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.queries.execution_filter import Awaiting, ExecutionFilter
from app.services.runs.queries.execution_shapes import ExecutionRead, ExecutionSummary, TreeNode, execution_etag

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


def as_iso_text(value: object) -> object:
    """Refuse a bare number, which could be seconds or milliseconds."""
    if isinstance(value, str) and not ISO_DATE.match(value):
        raise ValueError("must be a time in ISO 8601, such as 2026-01-31T12:00:00Z")
    return value


def in_utc(moment: datetime) -> datetime:
    """Return the moment in UTC. Without a zone, UTC is assumed."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999 of UTC") from None


Moment = Annotated[datetime, BeforeValidator(as_iso_text), AfterValidator(in_utc)]
ExecutionSort = Literal["startedAt", "-startedAt", "createdAt", "-createdAt"]
Name = Annotated[str | None, Query(max_length=200)]
Words = Annotated[
    str | None,
    Query(
        max_length=200,
        description="Words of the prompt, at most 8. Each must begin one of the first 40 different words of the "
        "prompt (within its first 2,000 characters); case and the Unicode form do not matter. "
        "Executions of other programs are not searched. `total` counts up to 10,000.",
    ),
]
LeastCost = Annotated[
    float | None,
    Query(
        alias="minCostUsd",
        ge=0,
        allow_inf_nan=False,
        description="Cost at least this many US dollars: for a root the cost of its tree, as in `total`. Only "
        "executions that have ended and whose cost is known match.",
    ),
]


async def execution_filter(
    q: Words = None,
    project: Annotated[ObjectIdStr | None, Query(description="The id of a CMS project.")] = None,
    episode: Annotated[ObjectIdStr | None, Query(description="The id of a CMS episode.")] = None,
    agent: Annotated[Name, Query(description="An agent's id.")] = None,
    department: Annotated[Name, Query(description="A department's slug.")] = None,
    status: Annotated[ExecutionStatus | None, Query(description="The status of the execution.")] = None,
    review_status: Annotated[
        ReviewStatus | None, Query(alias="reviewStatus", description="The outcome of the latest review.")
    ] = None,
    kind: Annotated[ExecutionKind | None, Query(description="The kind of execution.")] = None,
    is_root: Annotated[
        bool | None,
        Query(alias="isRoot", description="Whether the execution is a run (the root of its tree) or a part of one."),
    ] = None,
    awaiting: Annotated[
        Awaiting | None,
        Query(
            description="The decision of a person that the run, shown by its root, is waiting for. `total` counts up "
            "to 10,000."
        ),
    ] = None,
    api_key: Annotated[
        Name, Query(alias="apiKey", description="The id of the API key that started the run, as `/api-keys` lists it.")
    ] = None,
    root_execution_id: Annotated[
        Name, Query(alias="rootExecutionId", description="The id of the root of a run tree.")
    ] = None,
    conversation_id: Annotated[Name, Query(alias="conversationId", description="A conversation's name.")] = None,
    min_cost_usd: LeastCost = None,
    legal_hold: Annotated[
        bool | None, Query(alias="legalHold", description="Whether the run, shown by its root, is under a legal hold.")
    ] = None,
    started_from: Annotated[Moment | None, Query(alias="from", description="Started at or after this time.")] = None,
    started_to: Annotated[Moment | None, Query(alias="to", description="Started before this time.")] = None,
) -> ExecutionFilter:
    """Return the filter for the requested executions."""
    return ExecutionFilter(
        q=q,
        project=project,
        episode=episode,
        agent=agent,
        department=department,
        status=status,
        review_status=review_status,
        kind=kind,
        is_root=is_root,
        awaiting=awaiting,
        api_key=api_key,
        root_execution_id=root_execution_id,
        conversation_id=conversation_id,
        legal_hold=legal_hold,
        min_cost_usd=min_cost_usd,
        started_from=started_from,
        started_to=started_to,
    )


ExecutionFilterQuery = Annotated[ExecutionFilter, Depends(execution_filter)]


@router.get(
    "",
    operation_id="listExecutions",
    response_description="The executions of the page.",
    response_model=PageRead[ExecutionSummary],
    responses=problem_responses(403),
)
async def list_executions(
    executions: ExecutionQueriesDep,
    caller: ViewerRole,
    wanted: ExecutionFilterQuery,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[
        ExecutionSort, sort_query(startedAt="the start of the work", createdAt="the acceptance")
    ] = "-startedAt",
) -> Response:
    """List executions, latest first by default."""
    return await answer_large_page(await executions.list_executions(wanted, PageRequest(limit, sort, cursor), caller))


@router.get(
    "/{execution_id}",
    operation_id="getExecution",
    response_description="The execution.",
    responses=problem_responses(403, 404),
)
async def get_execution(
    execution_id: ExecutionIdPath,
    executions: ExecutionQueriesDep,
    caller: ViewerRole,
    response: Response,
    omit: Omit = None,
) -> ExecutionRead:
    """Read one execution without its events."""
    found = await executions.get_execution(execution_id, caller)
    return answer_entry(Entry(without(found, omit), execution_etag(found)), response)


@router.get(
    "/{execution_id}/tree",
    operation_id="getExecutionTree",
    response_description="The execution with its descendants.",
    responses=problem_responses(403, 404),
)
async def get_execution_tree(
    execution_id: ExecutionIdPath, executions: ExecutionQueriesDep, caller: ViewerRole
) -> TreeNode:
    """Read the tree below an execution: the status, score, tokens and cost of each execution that it started."""
    return await executions.get_tree(execution_id, caller)
