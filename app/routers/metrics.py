"""Metrics for Prometheus. Gauges of what all processes share are read from the database at most every few seconds."""

import asyncio
import time
from dataclasses import dataclass, field

import structlog
from fastapi import APIRouter, Request, Response
from pymongo.errors import PyMongoError

from app.database.collections import collection_of
from app.dependencies import Services, services_of
from app.models.approval import Approval, ApprovalStatus
from app.routers.health import MISDIRECTED, OPEN
from app.services.usage.budgets.budgets import BudgetMark
from app.telemetry.metrics import (
    APPROVALS_PENDING,
    BUDGET_USED,
    QUEUE_DEPTH,
    RUNNING,
    SANDBOX_WORKERS,
    SCOPE_TYPES,
    exposition,
)

READ_EVERY_SECONDS = 5.0
READ_SECONDS = 2.0
MAX_BUDGETS = 1000
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EXAMPLE = (
    "# HELP dynamic_agents_queue_depth Run trees without an owner, the same in every process.\n"
    "# TYPE dynamic_agents_queue_depth gauge\n"
    "dynamic_agents_queue_depth 0.0\n"
)

router = APIRouter(tags=["operating"])
log = structlog.get_logger(__name__)


@dataclass
class Gauges:
    """The gauges of a process, set just before they are shown."""

    services: Services
    _read_at: float = field(default=float("-inf"), init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def update(self) -> None:
        """Set all gauges; those of the database keep their values while it does not answer."""
        RUNNING.set(self.services.engine.owned.executions_running)
        for state, count in self.services.sandbox.worker_states.items():
            SANDBOX_WORKERS.labels(state).set(count)
        async with self._reading:
            if time.monotonic() - self._read_at < READ_EVERY_SECONDS:
                return
            self._read_at = time.monotonic()
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await asyncio.gather(self._read_queue(), self._read_approvals(), self._read_budgets())
            except (PyMongoError, TimeoutError) as error:
                log.warning("metrics-read-failed", error=type(error).__name__)

    async def _read_queue(self) -> None:
        QUEUE_DEPTH.set(await self.services.engine.dispatcher.queue.count_waiting())

    async def _read_approvals(self) -> None:
        approvals = collection_of(self.services.database, Approval)
        APPROVALS_PENDING.set(await approvals.count_documents({"status": ApprovalStatus.PENDING.value}))

    async def _read_budgets(self) -> None:
        store = self.services.budgets.store
        scopes = sorted(await store.scopes())[:MAX_BUDGETS]
        marks = [BudgetMark.of(raw) for raw in await store.read(scopes)] if scopes else []
        for kind in SCOPE_TYPES:
            BUDGET_USED.labels(kind).set(
                max((mark.ratio for mark in marks if mark.scope.partition(":")[0] == kind), default=0.0)
            )


@router.get(
    "/metrics",
    operation_id="getMetrics",
    response_class=Response,
    response_description="All metrics in Prometheus's text format.",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}}}, **MISDIRECTED},
    openapi_extra=OPEN,
)
async def get_metrics(request: Request) -> Response:
    """Report the metrics of this process. Scrape every process, including workers, as a target of its own."""
    state = request.app.state
    if not hasattr(state, "gauges"):
        state.gauges = Gauges(services_of(request))
    await state.gauges.update()
    return Response(exposition(), media_type=CONTENT_TYPE)
