"""The application: the only place that wires services together."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI

from app.demo.provider import register_demo_provider
from app.dependencies import Services
from app.events.outbox import open_outbox
from app.events.stream.hub import EventHub
from app.events.stream.opening import open_bus, running_in_background
from app.routers.application import make_api, make_worker_api
from app.services.access.admin_key import AdminKey, load_admin_key
from app.services.access.opening import open_credentials
from app.services.access.stream_tickets import StreamTickets
from app.services.audit.ends import AuditEnds
from app.services.audit.opening import appending_audit_entries, open_audit_log
from app.services.catalog.opening import make_editor, open_loader, open_seeded_database, open_stored_tools
from app.services.catalog.queries import CatalogQueries
from app.services.catalog.tool_tester import ToolTester
from app.services.llm.cache.opening import open_response_cache
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import open_models
from app.services.quality.analytics import QualityQueries
from app.services.quality.weights import WeightStore
from app.services.retention.passes import open_retention
from app.services.runs.accept.starter import open_starter
from app.services.runs.approvals.store import ApprovalStore
from app.services.runs.engine.opening import make_run_context, open_engine
from app.services.runs.lifecycle.approvals import ApprovalService
from app.services.runs.lifecycle.control import ExecutionControl
from app.services.runs.lifecycle.reviews import ReviewService
from app.services.runs.queries.approvals import ApprovalQueries
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.queries.prompt_index import keep_prompts_indexed
from app.services.runs.queries.prompts import PromptQueries
from app.services.usage.analytics import UsageQueries
from app.services.usage.budgets.budgets import open_budgets
from app.services.usage.open_streams import OpenStreams
from app.services.usage.rollups import UsageRollups
from app.services.usage.statistics import Statistics
from app.settings import Settings
from app.telemetry.tracing import open_tracing

log = structlog.get_logger(__name__)


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Create the service as an ASGI application.

    Its services start and stop with its lifespan, unless the caller has opened them already.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_services(settings) as opened:
            app.state.services = opened
            yield

    app = make_api(settings, None if services else lifespan)
    if services:
        app.state.services = services
    return app


def create_worker_app(services: Services) -> FastAPI:
    """Create the ASGI application of a worker, which serves only health checks and metrics."""
    app = make_worker_api()
    app.state.services = services
    return app


@asynccontextmanager
async def open_services(settings: Settings, *, is_worker: bool = False) -> AsyncGenerator[Services]:
    """Start everything behind the routers in order, and stop it in reverse.

    A worker executes runs that other processes accept; it shares the embedded database of a service on its machine.

    Raises:
        StartupError: a service cannot start; the message says which one and why.
    """
    table = load_model_table(settings)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        traces = await enter(open_tracing(settings))
        database = await enter(open_seeded_database(settings, is_worker=is_worker))
        register_demo_provider()
        models = await enter(open_models(settings, table))
        toolbox = await enter(open_stored_tools(settings, database))
        bus = await enter(open_bus(settings.redis_uri, database))
        loader = await enter(open_loader(settings, database, toolbox.mcp))
        appender = await enter(appending_audit_entries(database))  # stops after the runs and the outbox
        outbox = await enter(open_outbox(database, [Statistics(database), UsageRollups(database), AuditEnds(database)]))
        budgets = await enter(open_budgets(database))
        cache = await enter(open_response_cache(settings, database, models))
        context = make_run_context(settings, models, toolbox, bus, outbox, budgets, cache)
        engine = await enter(open_engine(settings, database, bus, loader, context, outbox, traces, is_worker=is_worker))
        admin_key = AdminKey() if is_worker else load_admin_key(settings)
        credentials = await enter(open_credentials(settings, database, admin_key))
        await enter(running_in_background(keep_prompts_indexed(database), "prompt index"))
        archives = await enter(open_retention(settings, database, is_worker=is_worker))
        audit = await enter(open_audit_log(appender, settings.data_dir, archives, is_worker=is_worker))
        executions = ExecutionQueries(database, archives)
        starter = await enter(open_starter(settings, loader, models, engine, budgets))
        yield Services(
            settings=settings,
            database=database,
            bus=bus,
            hub=EventHub(database, bus, archives),
            catalog=CatalogQueries(database),
            editor=make_editor(settings, database, toolbox, loader, table.names),
            executions=executions,
            tool_tester=ToolTester(database, toolbox),
            mcp=toolbox.mcp,
            sandbox=toolbox.sandbox,
            weights=WeightStore(database, loader),
            quality=QualityQueries(database),
            usage=UsageQueries(database),
            models=models,
            engine=engine,
            starter=starter,
            control=ExecutionControl(database, executions, engine, starter, outbox),
            prompts=PromptQueries(database, executions),
            reviews=ReviewService(database, bus, executions, engine, starter),
            approvals=ApprovalService(ApprovalStore(database), ApprovalQueries(database), engine),
            admin_key=admin_key,
            credentials=credentials,
            streams=OpenStreams(settings.max_streams, settings.max_streams_per_key),
            tickets=StreamTickets(database),
            budgets=budgets,
            traces=traces,
            audit=audit,
        )
