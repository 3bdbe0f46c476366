"""Orchestrations: runs of several departments."""

from fastapi import APIRouter

from app.dependencies import RunnerRole, StarterDep
from app.routers.executions.runs import RUN_PROBLEMS, RUN_RESPONSES, IdempotencyKey, RunResponderDep
from app.routers.http.omitted_fields import Omit, without
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.runs.accept.schemas import OrchestrationCreate
from app.services.runs.queries.execution_shapes import ExecutionRead

router = APIRouter(prefix="/orchestrations", tags=["orchestrations"], route_class=StrictRoute)


@router.post(
    "",
    operation_id="startOrchestration",
    status_code=202,
    responses={**RUN_RESPONSES, **problem_responses(*RUN_PROBLEMS)},
)
async def start_orchestration(
    body: OrchestrationCreate,
    responder: RunResponderDep,
    starter: StarterDep,
    caller: RunnerRole,
    idempotency_key: IdempotencyKey = None,
    omit: Omit = None,
) -> ExecutionRead:
    """Run several departments in order of priority; departments with equal priority run concurrently.

    Each department receives the reports of those before it. A department that fails is reported, and the others
    continue. At the end, the head of the department `production`, whose execution is the root, combines the reports
    into one result. The root's `orchestrator-progress` events report the progress.
    """
    accepted = await starter.start_orchestration(body, caller, idempotency_key)
    return without(await responder.answer(accepted, caller), omit)
