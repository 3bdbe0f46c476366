"""Control of executions: cancel, retry, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from app.dependencies import AdminRole, ControlDep, RunnerRole
from app.kit.schemas import Entry
from app.routers.executions.runs import RUN_RESPONSES, IdempotencyKey, RunResponderDep
from app.routers.http.entries import DELETE_PROBLEMS, UPDATE_PROBLEMS, IfMatch, answer_entry
from app.routers.http.path_parameters import ExecutionIdPath
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.lifecycle.control import RetryFrom
from app.services.runs.queries.execution_shapes import ExecutionRead, execution_etag


class ExecutionUpdate(BaseModel):
    """Changes of a run."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"legalHold": True}]},
    )

    legal_hold: bool | None = None
    """Whether the run is under a legal hold; `null` releases it."""


router = APIRouter(prefix="/executions", tags=["executions"], route_class=StrictRoute)


@router.post(
    "/{execution_id}/cancel",
    operation_id="cancelExecution",
    response_description="The cancellation has been accepted.",
    status_code=202,
    responses=problem_responses(403, 404, 409),
)
async def cancel_execution(execution_id: ExecutionIdPath, control: ControlDep, caller: RunnerRole) -> ExecutionRead:
    """Cancel a run with all its executions, whichever process runs it. Its events end with `agent-cancelled`.

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


@router.patch(
    "/{execution_id}",
    operation_id="updateExecution",
    response_description="The changed execution.",
    responses=problem_responses(*UPDATE_PROBLEMS),
)
async def update_execution(
    execution_id: ExecutionIdPath,
    body: ExecutionUpdate,
    control: ControlDep,
    caller: AdminRole,
    response: Response,
    if_match: IfMatch = None,
) -> ExecutionRead:
    """Put a run under a legal hold, or release it, by a merge patch. A held run is neither archived nor deleted.

    Only the root of a run can be held; the hold protects its whole tree. A run that is already archived stays archived.
    """
    held = bool(body.legal_hold) if "legal_hold" in body.model_fields_set else None
    changed = await control.hold(execution_id, held=held, caller=caller, if_match=if_match)
    return answer_entry(Entry(changed, execution_etag(changed)), response)


@router.delete(
    "/{execution_id}",
    operation_id="deleteExecution",
    response_description="The run has been deleted.",
    status_code=204,
    responses=problem_responses(*DELETE_PROBLEMS),
)
async def delete_execution(
    execution_id: ExecutionIdPath, control: ControlDep, caller: AdminRole, if_match: IfMatch = None
) -> None:
    """Delete a finished run with all its executions, events and its archive. The agents' statistics do not change.

    For a run under a legal hold, the response is 409 `execution-held`.
    """
    await control.delete(execution_id, caller, if_match)
