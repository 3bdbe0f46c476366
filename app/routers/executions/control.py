"""Control of executions: cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.dependencies import AdminRole, ControlDep, RunnerRole
from app.routers.executions.runs import RUN_RESPONSES, IdempotencyKey, RunResponderDep
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.lifecycle.control import RetryFrom
from app.services.runs.queries.execution_shapes import ExecutionRead

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.post(
    "/{execution_id}/cancel",
    operation_id="cancelExecution",
    response_description="The cancellation has been accepted.",
    status_code=202,
    responses=problem_responses(403, 404, 409),
)
async def cancel_execution(execution_id: ExecutionIdPath, control: ControlDep, caller: RunnerRole) -> ExecutionRead:
    """Cancel a run with all its executions, in whichever process it runs. Its events end with `agent-cancelled`.

    A specialist's execution cannot be cancelled alone: its id cancels the run that it belongs to.
    """
    return await control.cancel(execution_id, caller)


@router.post(
    "/{execution_id}/retry",
    operation_id="retryExecution",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(403, 404, 409, 429)},
)
async def retry_execution(
    execution_id: ExecutionIdPath,
    responder: RunResponderDep,
    control: ControlDep,
    caller: RunnerRole,
    origin: Annotated[
        RetryFrom,
        Query(alias="from", description="`checkpoint`: resume from the last saved step. `start`: repeat everything."),
    ] = "checkpoint",
    idempotency_key: IdempotencyKey = None,
) -> ExecutionRead:
    """Retry a failed or cancelled run as a new execution with `retryOf`.

    From the checkpoint, saved steps are copied to the new run's events, and are neither repeated nor paid for again.
    Its `tokenUsage` counts the new calls only.
    """
    accepted = await control.retry(execution_id, origin, caller, idempotency_key)
    return await responder.answer(accepted, caller)


@router.delete(
    "/{execution_id}",
    operation_id="deleteExecution",
    response_description="The run has been deleted.",
    status_code=204,
    responses=problem_responses(403, 404, 409),
)
async def delete_execution(execution_id: ExecutionIdPath, control: ControlDep, caller: AdminRole) -> None:
    """Delete a finished run with all its executions and events. The agents' statistics do not change."""
    await control.delete(execution_id, caller)
