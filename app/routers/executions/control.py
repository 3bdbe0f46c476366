"""Acting on executions: cancelling, trying again, deleting."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.dependencies import AdminRole, ControlDep, RunnerRole
from app.routers.executions.runs import RUN_RESPONSES, IdempotencyKey, RunResponderDep
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.lifecycle.control import RetryFrom
from app.services.runs.queries.executions import ExecutionRead

router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.post(
    "/{execution_id}/cancel",
    operation_id="cancelExecution",
    status_code=202,
    responses=problem_responses(403, 404, 409),
)
async def cancel_execution(execution_id: str, control: ControlDep, caller: RunnerRole) -> ExecutionRead:
    """Stop a run with all that it started, wherever it runs; its events end with `agent-cancelled`.

    A specialist's execution cannot be stopped alone: its id stops the whole run that it belongs to.
    """
    return await control.cancel(execution_id, caller)


@router.post(
    "/{execution_id}/retry",
    operation_id="retryExecution",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(403, 404, 409, 429)},
)
async def retry_execution(
    execution_id: str,
    responder: RunResponderDep,
    control: ControlDep,
    caller: RunnerRole,
    origin: Annotated[
        RetryFrom,
        Query(alias="from", description="`checkpoint`: go on from the last saved step. `start`: do everything anew."),
    ] = "checkpoint",
    idempotency_key: IdempotencyKey = None,
) -> ExecutionRead:
    """Try a failed or cancelled run again, as a new execution with `retryOf`.

    From the checkpoint, what was saved is in the new run's events and is not done or paid for again; its `tokenUsage`
    counts the new calls alone.
    """
    accepted = await control.retry(execution_id, origin, caller, idempotency_key)
    return await responder.answer(accepted, caller)


@router.delete(
    "/{execution_id}",
    operation_id="deleteExecution",
    status_code=204,
    responses=problem_responses(403, 404, 409),
)
async def delete_execution(execution_id: str, control: ControlDep, caller: AdminRole) -> None:
    """Delete a finished run with all its executions and events; what agents' statistics counted stays counted."""
    await control.delete(execution_id, caller)
