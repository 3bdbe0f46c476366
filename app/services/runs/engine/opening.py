"""Opening the run engine of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from app.database.connection import Database
from app.events.outbox import Outbox
from app.events.stream.bus import EventBus
from app.services.catalog.loader import DefinitionLoader
from app.services.llm.cache.response_cache import ResponseCache
from app.services.llm.context.window import ContextRules
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.opening import purpose_models
from app.services.llm.model_info.worst_case import WorstCases
from app.services.quality.gates import gate_thresholds
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.wakeups import RedisWakeups
from app.services.runs.material.cms_documents import ContextFields
from app.services.runs.work.execution_run import RunContext
from app.services.tools.toolbox import Toolbox
from app.services.usage.budgets.budgets import Budgets
from app.settings import Settings
from app.telemetry.tracing import NO_TRACES, Traces

STOP_GRACE_SECONDS = 5.0
"""How long runs may take to end when the process stops; the rest continue in another process."""


@asynccontextmanager
async def open_engine(
    settings: Settings,
    database: Database,
    bus: EventBus,
    loader: DefinitionLoader,
    context: RunContext,
    outbox: Outbox,
    traces: Traces = NO_TRACES,
    *,
    is_worker: bool,
) -> AsyncGenerator[RunEngine]:
    """Open the run engine; with `REDIS_URL`, processes wake each other.

    With `SERVE_RUNS=false`, the engine of a process that is not a worker only accepts runs, for other processes.
    """
    works = is_worker or settings.serve_runs
    limits = RunLimits(
        max_concurrent=settings.max_concurrent_runs if works else 0,
        per_department=settings.max_department_runs,
        run_seconds=settings.max_run_seconds,
    )
    open_wakeups = partial(RedisWakeups, settings.redis_uri) if settings.redis_uri else None
    engine = RunEngine(database, bus, loader, context, outbox, limits, open_wakeups=open_wakeups, traces=traces)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(STOP_GRACE_SECONDS)


def make_run_context(
    settings: Settings,
    models: ModelGateway,
    toolbox: Toolbox,
    bus: EventBus,
    outbox: Outbox,
    budgets: Budgets,
    response_cache: ResponseCache | None = None,
) -> RunContext:
    """Create the models, tools and rules that every run of the process shares."""
    return RunContext(
        models=models,
        tools=toolbox,
        wants_deltas=bus.wants_deltas,
        record_name=models.record_name,
        outbox_marks=outbox.marks,
        handed_on_characters=settings.handed_on_characters,
        context_fields=ContextFields(settings.project_context_fields, settings.episode_context_fields),
        purposes=purpose_models(settings, models),
        retries=models.retries_of,
        thresholds=gate_thresholds(settings),
        context_tokens=models.context_tokens,
        budgets=budgets,
        approval_seconds=settings.approval_ttl_seconds,
        response_cache=response_cache,
        worst_case=WorstCases(models.usable_entries, models.sends_limit, models.table.router_settings).of,
        context_rules=ContextRules(
            tool_result_bytes=settings.tool_result_model_bytes,
            reserve_tokens=settings.context_reserve_tokens,
            context_tokens=models.context_tokens,
            answer_tokens=models.answer_tokens,
        ),
    )
