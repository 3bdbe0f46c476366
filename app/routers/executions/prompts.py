"""The prompts of an execution."""

from fastapi import APIRouter

from app.dependencies import AdminRole, PromptsDep
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.queries.prompts import ShownPrompts

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.get(
    "/{execution_id}/prompts",
    operation_id="getExecutionPrompts",
    response_description="The prompts.",
    responses=problem_responses(403, 404, 410),
)
async def get_execution_prompts(execution_id: ExecutionIdPath, prompts: PromptsDep, caller: AdminRole) -> ShownPrompts:
    """Show the prompts of an execution: the last call of each purpose, and the number of calls.

    The prompts of the agent itself (`work`, `report`, `orchestrate`) are `stored` once the execution has ended; after a
    revision, they are those of the last attempt. Plans, judgments and reviews are `rebuilt` from stored events with
    today's templates and instructions. They are exact if `promptsVersion` equals `currentVersion` and the agents have
    not been edited. An output that was judged together with others is shown as if it had been judged alone.
    """
    return await prompts.read(execution_id, caller)
