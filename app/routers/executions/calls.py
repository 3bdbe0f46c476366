"""The model calls of an execution."""

from typing import Annotated, Literal

from fastapi import APIRouter

from app.dependencies import DEFAULT_PAGE, CallsDep, Cursor, Limit, ViewerRole
from app.kit.paging import PageRequest
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.queries.calls import ModelCallRead

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)

CallSort = Literal["seq", "-seq"]


@router.get(
    "/{execution_id}/calls",
    operation_id="listModelCalls",
    response_description="The calls of the page.",
    responses=problem_responses(403, 404),
)
async def list_model_calls(
    execution_id: ExecutionIdPath,
    calls: CallsDep,
    caller: ViewerRole,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[CallSort, sort_query(seq="the number of the event that reports it")] = "seq",
) -> PageRead[ModelCallRead]:
    """List the model calls of an execution, or of the whole tree for a root, by default in the order of their events.

    Every attempt has a row, even if it failed or its answer was unusable. The rows add up to the `tokenUsage` and
    `costUsd` of the executions, and to the root's `total`.
    """
    return PageRead[ModelCallRead].of(await calls.list_calls(execution_id, PageRequest(limit, sort, cursor), caller))
