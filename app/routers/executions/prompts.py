"""What models were told for an execution."""

from fastapi import APIRouter

from app.dependencies import AdminRole, PromptsDep
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.queries.prompts import ShownPrompts

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.get("/{execution_id}/prompts", operation_id="getExecutionPrompts", responses=problem_responses(403, 404))
async def get_execution_prompts(execution_id: str, prompts: PromptsDep, caller: AdminRole) -> ShownPrompts:
    """Show what models were told for an execution: the last call of each purpose, and how many there were.

    What the agent itself was told (`work`, `report`, `orchestrate`) is `stored`: the history of an ended execution,
    after a revision that of its last attempt. Plans, judgements and reviews are `rebuilt` from stored events by today's
    templates and instructions: exact while `promptsVersion` is `currentVersion` and nobody has edited the agents. An
    output that was judged together with others is shown as it is judged alone. Of a run that goes on, what the agent
    itself was told follows at its end.
    """
    return await prompts.read(execution_id, caller)
