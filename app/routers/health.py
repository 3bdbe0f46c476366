"""Probes: whether the process is up, and whether it can do its work. They also support HEAD."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field
from pymongo.errors import PyMongoError

from app.database.connection import Database
from app.dependencies import DatabaseDep, EngineDep, ModelsDep
from app.kit.schemas import ApiModel
from app.routers.http.problems import Problem
from app.services.llm.gateway import ModelGateway

CHECK_SECONDS = 3

router = APIRouter(tags=["operating"])

OPEN = {"security": []}
"""Probes need no credentials."""
MISDIRECTED: dict[int | str, dict[str, Any]] = {
    421: {"model": Problem, "description": "The `Host` header names another host."}
}
ExcludedCheck = Annotated[
    Literal["queue"] | None,
    Query(
        description=(
            "`queue` skips the check of Redis, for load balancers: without Redis, the service still accepts runs."
        )
    ),
]


class Health(ApiModel):
    """The process is up."""

    status: Literal["ok"] = "ok"
    """Always `ok`."""


class Readiness(ApiModel):
    """Whether the service can do its work."""

    status: Literal["ready", "not-ready"]
    """`ready` if every check is `ok`, else `not-ready`."""
    checks: dict[str, str] = Field(examples=[{"database": "ok", "runs": "ok", "models": "ok"}])
    """Each part that the service needs: `ok`, or its problem in one sentence."""


@router.head("/healthz", include_in_schema=False)
@router.get(
    "/healthz",
    operation_id="getHealth",
    response_description="The process is up.",
    responses=MISDIRECTED,
    openapi_extra=OPEN,
)
async def get_health() -> Health:
    """Report that the process is up, without checking anything else."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    operation_id="getReadiness",
    response_description="The service is ready.",
    responses={503: {"model": Readiness, "description": "At least one check fails."}, **MISDIRECTED},
    openapi_extra=OPEN,
)
async def get_readiness(
    response: Response, database: DatabaseDep, engine: EngineDep, models: ModelsDep, exclude: ExcludedCheck = None
) -> Readiness:
    """Check database, run engine, queue and models. 503 names those that fail."""
    checks = {
        "database": await check_database(database),
        "runs": "ok" if engine.is_healthy else "The run engine is stopping, or cannot renew its leases.",
        "models": check_models(models),
    }
    if engine.wakeups is not None and exclude != "queue":
        checks["queue"] = "ok" if engine.wakeups.is_healthy else "Redis does not answer."
    ready = all(result == "ok" for result in checks.values())
    if not ready:
        response.status_code = 503
    return Readiness(status="ready" if ready else "not-ready", checks=checks)


async def check_database(database: Database) -> str:
    """Check that a primary answers."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            hello = await database.command("hello")
    except (PyMongoError, TimeoutError):
        return "MongoDB does not answer."
    return "ok" if hello.get("isWritablePrimary") or hello.get("msg") == "isdbgrid" else "MongoDB has no primary."


def check_models(models: ModelGateway) -> str:
    """Check that at least one model is usable."""
    if any(model.usable for model in models.describe()):
        return "ok"
    return f"No model can be used: {models.table.source} has no usable entry."
