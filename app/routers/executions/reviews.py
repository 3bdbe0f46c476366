"""Reviews by people."""

from http import HTTPStatus

import structlog
from fastapi import APIRouter, Response

from app.dependencies import ReviewsDep, RunnerRole
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import BODY_PROBLEMS, problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.lifecycle.reviews import ReviewCreate
from app.services.runs.queries.execution_shapes import ExecutionRead

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.post(
    "/{execution_id}/review",
    operation_id="reviewExecution",
    response_description="The reviewed execution.",
    responses={
        202: {"model": ExecutionRead, "description": "Sent back: the run is open again. Follow its events."},
        **problem_responses(*BODY_PROBLEMS, 403, 404, 409, 429),
    },
)
async def review_execution(
    execution_id: ExecutionIdPath, body: ReviewCreate, reviews: ReviewsDep, caller: RunnerRole, response: Response
) -> ExecutionRead:
    """Review an execution as a person, at any time after its run has ended. Before that, the response is 409.

    `approved` and `rejected` are stored with a `review-status` event that names the key's holder. `revision-needed`
    reopens the run (202): the agent continues from its history with the notes, its new work is judged and reviewed,
    and every report above it is written again.
    """
    found = await reviews.review(execution_id, body, caller)
    log.info("execution-reviewed", executionId=found.execution_id, status=body.status)
    if body.status == "revision-needed":
        response.status_code = HTTPStatus.ACCEPTED
    return found
