"""The application: the only place that wires things together."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from app.database.connection import Database
from app.database.opening import open_database
from app.demo.provider import register_demo_provider
from app.dependencies import Services
from app.events.stream.bus import EventBus
from app.events.stream.hub import EventHub
from app.events.stream.opening import open_bus, running_in_background
from app.models.api_key import Role
from app.routers import analytics, api_keys, health, me, models, quality
from app.routers.catalog import agents, custom_tools, departments, mcp_servers
from app.routers.docs import api_docs, async_api
from app.routers.executions import control as execution_control
from app.routers.executions import events as execution_events
from app.routers.executions import executions, orchestrations, reviews, stream_tickets
from app.routers.executions import prompts as execution_prompts
from app.routers.http.hosts import HostCheck
from app.routers.http.problems import Problem, add_problem_handlers
from app.routers.http.request_context import CROSS_ORIGIN, RequestContext
from app.routers.http.trusted_proxies import TrustedProxies
from app.routers.sockets import agent_events
from app.services.access.admin_key import AdminKey, load_admin_key
from app.services.access.api_keys import ApiKeyStore
from app.services.access.authenticator import Authenticator
from app.services.access.credential_watch import CredentialWatch
from app.services.access.failed_authentications import FailedAuthentications
from app.services.access.published_keys import PublishedKeys
from app.services.access.stream_tickets import StreamTickets
from app.services.access.tokens import TokenVerifier
from app.services.catalog.builtin_tools import store_builtin_tools
from app.services.catalog.editor import CatalogEditor
from app.services.catalog.live_reload import LiveReload
from app.services.catalog.loader import DefinitionLoader
from app.services.catalog.queries import CatalogQueries
from app.services.catalog.seeds.insertion import insert_missing_seeds
from app.services.catalog.tool_checker import ToolChecker
from app.services.catalog.tool_tester import ToolTester
from app.services.llm.context.window import ContextRules
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_patches.inline_executor import use_inline_executor
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import open_models
from app.services.quality.analytics import QualityQueries
from app.services.quality.gates import GateName, Thresholds
from app.services.quality.weights import WeightStore
from app.services.runs.accept.starter import RunStarter
from app.services.runs.engine.run_engine import RunEngine, RunLimits
from app.services.runs.engine.wakeups import RedisWakeups
from app.services.runs.lifecycle.control import ExecutionControl
from app.services.runs.lifecycle.reviews import ReviewService
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.queries.prompts import PromptQueries
from app.services.runs.work.execution_run import RunContext
from app.services.tools.builtin import load_builtin_tools
from app.services.tools.egress.guard import Egress
from app.services.tools.mcp.settings import load_mcp_servers
from app.services.tools.mcp.tools import McpTools, NoServers
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.services.tools.toolbox import Toolbox
from app.services.usage.counters import SharedWindowCounter, WindowCounter
from app.services.usage.open_streams import OpenStreams
from app.services.usage.rate_limits import RateLimiter
from app.settings import Settings

API_BASE = "/api/v1"
STOP_GRACE_SECONDS = 5.0
API_ROUTERS = (
    departments,
    agents,
    custom_tools,
    mcp_servers,
    orchestrations,
    executions,
    execution_events,
    execution_control,
    execution_prompts,
    reviews,
    stream_tickets,
    quality,
    analytics,
    api_keys,
    me,
    models,
)
DESCRIPTION = """
Run AI agents that live in a MongoDB database. Departments, agents and custom tools are documents: edit one, and the
next run uses it.

Start a run with `POST /api/v1/agents/{agentId}/runs`, `POST /api/v1/departments/{slug}/runs` or, over several
departments, `POST /api/v1/orchestrations`; watch it over the WebSocket `/api/agent-events` or as Server-Sent Events;
read its audit record under `/api/v1/executions`.

Errors are RFC 9457 problem details with a stable `code`. Every answer carries `X-Request-Id`.
"""

log = structlog.get_logger(__name__)


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """The service as an ASGI application.

    Its parts start and stop with its lifespan, unless the caller has opened them already.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        if services is not None:
            app.state.services = services
            yield
            return
        async with open_services(settings) as opened:
            app.state.services = opened
            yield

    app = FastAPI(
        title="Dynamic Agents",
        version=version("dynamic-agents"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lead to whatever host the client names
        separate_input_output_schemas=False,
        responses={500: {"model": Problem, "description": "A bug in the service"}},
    )
    if settings.answers_unnamed_hosts:
        log.warning("allowed-hosts-unset", advice="Set ALLOWED_HOSTS to the names that the service is reached by.")
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.allowed_origins, **CROSS_ORIGIN)
    app.add_middleware(HostCheck, allowed=settings.answered_hosts)
    app.add_middleware(RequestContext)
    app.add_middleware(TrustedProxies, trusted=settings.trusted_proxies)
    add_problem_handlers(app)
    for module in API_ROUTERS:
        app.include_router(module.router, prefix=API_BASE)
    app.include_router(agent_events.router)
    app.include_router(api_docs.router)
    app.include_router(async_api.router)
    app.include_router(health.router)
    return app


def gate_thresholds(settings: Settings) -> Thresholds:
    """What each quality gate asks for."""
    return {
        GateName.SPECIALIST: settings.specialist_gate,
        GateName.DEPARTMENT: settings.department_gate,
        GateName.ORCHESTRATOR: settings.orchestrator_gate,
    }


def create_worker_app(services: Services) -> FastAPI:
    """What a worker answers over HTTP: how it is."""
    app = FastAPI(
        title="Dynamic Agents worker",
        version=version("dynamic-agents"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.include_router(health.router)
    return app


def token_verifier(settings: Settings) -> TokenVerifier:
    """Accepts the tokens that the settings name a secret or published keys for, else none."""
    if settings.jwt_jwks_url and settings.jwt_audience is None:
        log.warning("jwt-audience-unset", advice="Set JWT_AUDIENCE: tokens issued for other services are accepted.")
    return TokenVerifier(
        settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
        PublishedKeys(settings.jwt_jwks_url) if settings.jwt_jwks_url else None,
        settings.jwt_audience,
        settings.jwt_issuer,
    )


@asynccontextmanager
async def open_sandbox(settings: Settings) -> AsyncGenerator[ToolSandbox]:
    """The sandbox in which tools run, warm."""
    sandbox = ToolSandbox(
        timeout_seconds=settings.tool_timeout_seconds,
        memory_mb=settings.tool_memory_mb,
        workers=settings.tool_workers,
        egress=Egress.to(settings.tool_egress_allowlist),
    )
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.close()


@asynccontextmanager
async def open_mcp(settings: Settings) -> AsyncGenerator[McpTools]:
    """The MCP servers that the settings name, being connected in the background."""
    named = load_mcp_servers(settings.mcp_servers)
    if not named:
        yield NoServers()
        return
    from app.services.tools.mcp.servers import McpServers  # noqa: PLC0415 - the SDK's import takes a second

    servers = McpServers(
        named, log_file=settings.data_dir / "mcp-servers.log", start_seconds=settings.mcp_start_seconds
    )
    servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


@asynccontextmanager
async def open_engine(
    settings: Settings, database: Database, bus: EventBus, loader: DefinitionLoader, context: RunContext, *, works: bool
) -> AsyncGenerator[RunEngine]:
    """The run engine, with a wakeups to the other processes where there is a Redis."""
    limits = RunLimits(
        max_concurrent=settings.max_concurrent_runs if works else 0,
        per_department=settings.max_department_runs,
        run_seconds=settings.max_run_seconds,
    )
    wakeups = RedisWakeups(settings.redis_url.get_secret_value()) if settings.redis_url else None
    engine = RunEngine(database, bus, loader, context, limits, wakeups)
    if wakeups:
        wakeups.has_room, wakeups.wake = lambda: engine.room > 0, engine.wake
    await engine.start()
    if wakeups:
        wakeups.start()
    try:
        yield engine
    finally:
        await engine.stop(STOP_GRACE_SECONDS)
        if wakeups:
            await wakeups.stop()


@asynccontextmanager
async def open_toolbox(settings: Settings, database: Database, sandbox: ToolSandbox) -> AsyncGenerator[Toolbox]:
    """Whatever runs tools: the sandbox, functions of this process, and MCP servers."""
    builtins = load_builtin_tools(settings.tool_modules)
    await store_builtin_tools(database, builtins)
    async with open_mcp(settings) as mcp:
        yield Toolbox(sandbox, settings.tool_timeout_seconds, builtins, mcp)


@asynccontextmanager
async def open_loader(settings: Settings, database: Database, mcp: McpTools) -> AsyncGenerator[DefinitionLoader]:
    """What is stored of departments, agents and tools, as runs use it: an edit anywhere holds for the next run."""
    loader = DefinitionLoader(database, ttl_seconds=settings.agent_cache_ttl_seconds, mcp=mcp)
    mcp.on_change(loader.forget_all)
    reload = LiveReload(database, on_edit=loader.forget_all)
    await reload.start()
    try:
        yield loader
    finally:
        await reload.stop()


def make_run_context(settings: Settings, models: ModelGateway, toolbox: Toolbox, bus: EventBus) -> RunContext:
    """What every run works with."""
    return RunContext(
        models=models,
        tools=toolbox,
        wants_deltas=bus.wants_deltas,
        record_name=models.record_name,
        retries=models.retries_of,
        thresholds=gate_thresholds(settings),
        context_tokens=models.context_tokens,
        context_rules=ContextRules(
            tool_result_bytes=settings.tool_result_model_bytes,
            reserve_tokens=settings.context_reserve_tokens,
            context_tokens=models.context_tokens,
            answer_tokens=models.answer_tokens,
        ),
    )


def make_authenticator(settings: Settings, database: Database, admin_key: AdminKey) -> Authenticator:
    """Who may ask for what."""
    return Authenticator(
        ApiKeyStore(database, admin_key=admin_key.text),
        Role(settings.anonymous_role) if settings.anonymous_role != "none" else None,
        token_verifier(settings),
        FailedAuthentications(settings.auth_failure_limit),
    )


def open_counter(redis_url: str | None, stack: AsyncExitStack) -> WindowCounter:
    """Where starts of runs are counted: with Redis for all processes together."""
    if redis_url is None:
        return WindowCounter()
    window = SharedWindowCounter(redis_url)
    stack.push_async_callback(window.close)
    return window


@asynccontextmanager
async def open_services(settings: Settings, *, is_worker: bool = False) -> AsyncGenerator[Services]:
    """Everything behind the routers, started in order and stopped in reverse.

    A worker runs what is accepted elsewhere, and shares the embedded database of a service beside it.

    Raises:
        StartupError: a part cannot start; the message says which and why.
    """
    table = load_model_table(settings)
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(settings, share=is_worker))
        if settings.seeds_on_start:
            count = await insert_missing_seeds(database)
            log.info("seeded", departments=count.departments, agents=count.agents, customTools=count.custom_tools)
        use_inline_executor()
        register_demo_provider()
        models = await stack.enter_async_context(open_models(settings, table))
        sandbox = await stack.enter_async_context(open_sandbox(settings))
        toolbox = await stack.enter_async_context(open_toolbox(settings, database, sandbox))
        bus = await stack.enter_async_context(open_bus(redis_url, database))
        loader = await stack.enter_async_context(open_loader(settings, database, toolbox.mcp))
        context = make_run_context(settings, models, toolbox, bus)
        engine = await stack.enter_async_context(
            open_engine(settings, database, bus, loader, context, works=is_worker or settings.serve_runs)
        )
        admin_key = AdminKey() if is_worker else load_admin_key(settings)
        authenticator = make_authenticator(settings, database, admin_key)
        stack.push_async_callback(authenticator.tokens.close)
        credentials = CredentialWatch(authenticator)
        await stack.enter_async_context(running_in_background(credentials.run(), "credential watch"))
        executions = ExecutionQueries(database)
        limiter = RateLimiter("Starting runs", settings.run_rate_limit, open_counter(redis_url, stack))
        starter = RunStarter(loader, models, engine, settings.allowed_models, settings.complexity_models, limiter)
        known_models = frozenset({*settings.allowed_models, *table.names})
        yield Services(
            settings=settings,
            database=database,
            bus=bus,
            hub=EventHub(database, bus),
            catalog=CatalogQueries(database),
            editor=CatalogEditor(database, ToolChecker(sandbox), known_models, toolbox.mcp, on_write=loader.forget_all),
            executions=executions,
            tool_tester=ToolTester(database, toolbox),
            weights=WeightStore(database, loader),
            quality=QualityQueries(database),
            models=models,
            engine=engine,
            starter=starter,
            control=ExecutionControl(database, executions, engine, starter),
            prompts=PromptQueries(database, executions, loader),
            reviews=ReviewService(database, bus, executions, engine, starter),
            admin_key=admin_key,
            authenticator=authenticator,
            credentials=credentials,
            streams=OpenStreams(settings.max_streams, settings.max_streams_per_key),
            tickets=StreamTickets(database),
        )
