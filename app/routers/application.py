"""The HTTP application: routes, middleware and error handlers, without the services behind them."""

from importlib.metadata import version

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from app.routers import analytics, api_keys, audit, budgets, health, me, metrics, models, quality
from app.routers.catalog import agents, custom_tools, departments, mcp_servers
from app.routers.console import files as console_files
from app.routers.console import routes as console
from app.routers.docs import api_docs, async_api, error_reference, openapi
from app.routers.executions import approvals, executions, orchestrations, reviews, stream_tickets
from app.routers.executions import calls as execution_calls
from app.routers.executions import control as execution_control
from app.routers.executions import events as execution_events
from app.routers.executions import prompts as execution_prompts
from app.routers.http.hosts import HostCheck
from app.routers.http.problems import PROBLEM_DESCRIPTIONS, Problem, add_problem_handlers
from app.routers.http.request_context import API_BASE, CROSS_ORIGIN, RequestContext
from app.routers.http.trusted_proxies import TrustedProxies
from app.routers.sockets import agent_events
from app.settings import Settings
from app.telemetry.tracing import NO_TELEMETRY, Traces, http_tracing

API_ROUTERS = (
    departments,
    agents,
    custom_tools,
    mcp_servers,
    orchestrations,
    executions,
    execution_events,
    execution_control,
    execution_calls,
    execution_prompts,
    reviews,
    approvals,
    stream_tickets,
    quality,
    analytics,
    budgets,
    api_keys,
    audit,
    me,
    models,
)
DESCRIPTION = """
Run AI agents that live in a MongoDB database. Departments, agents and custom tools are documents: edit one, and the
next run uses it.

Start a run with `POST /api/v1/agents/{agentId}/runs`, `POST /api/v1/departments/{slug}/runs` or, over several
departments, `POST /api/v1/orchestrations`. Follow it over the WebSocket `/api/agent-events` or as Server-Sent Events.
Read its audit record under `/api/v1/executions`.

Errors are RFC 9457 problem details with a stable `code`, whose `type` is the path of a page about the code. Every
response carries `X-Request-Id`.
"""
TAGS = [
    {"name": "departments", "description": "Teams of agents: a head and specialists."},
    {"name": "agents", "description": "Agents: instructions, a model and tools."},
    {"name": "custom tools", "description": "JavaScript functions and MCP servers that agents call."},
    {"name": "orchestrations", "description": "Runs over several departments."},
    {
        "name": "executions",
        "description": "The audit record of each run: status, events, tree, model calls, prompts, reviews.",
    },
    {"name": "approvals", "description": "Tool calls that are waiting for a person's decision."},
    {"name": "quality", "description": "The weights of the dimensions by which work is scored."},
    {"name": "analytics", "description": "Statistics over all executions."},
    {"name": "budgets", "description": "Limits on tokens and cost."},
    {"name": "api keys", "description": "The keys of callers, and the caller of the request."},
    {"name": "audit", "description": "A tamper-evident record of changes, reviews and ends of runs."},
    {"name": "models", "description": "The configured models."},
    {"name": "operating", "description": "Probes for load balancers and orchestrators."},
]
LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}

log = structlog.get_logger(__name__)


def make_api(settings: Settings, lifespan: Lifespan[FastAPI] | None) -> FastAPI:
    """Create the application that serves the API; the lifespan, or the caller, sets `app.state.services`."""

    def traces() -> Traces:
        return app.state.services.traces

    tracing = http_tracing(settings, traces)
    app = FastAPI(
        title="Dynamic Agents",
        version=version("dynamic-agents"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        contact={"name": "The operators of this service"},
        license_info=LICENSE,
        servers=[{"url": "/", "description": "This service"}],
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to whatever host the client names
        separate_input_output_schemas=False,
        telemetry=tracing.telemetry,
        responses={500: {"model": Problem, "description": PROBLEM_DESCRIPTIONS[500]}},
    )
    if settings.answers_unnamed_hosts:
        log.warning("allowed-hosts-unset", advice="Set ALLOWED_HOSTS to the names that the service is reached by.")
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.allowed_origins, **CROSS_ORIGIN)
    app.add_middleware(HostCheck, allowed=settings.answered_hosts)
    app.add_middleware(RequestContext, trace_id=tracing.trace_id)
    app.add_middleware(TrustedProxies, trusted=settings.trusted_proxies)
    add_problem_handlers(app)
    for module in API_ROUTERS:
        app.include_router(module.router, prefix=API_BASE)
    app.include_router(agent_events.router)
    app.include_router(api_docs.router)
    app.include_router(openapi.router)
    app.include_router(error_reference.router)
    app.include_router(async_api.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    if settings.console:
        console_files.prepare()
        app.include_router(console.router)
    return app


def make_worker_api() -> FastAPI:
    """Create the application of a worker, which serves its health checks and metrics."""
    app = FastAPI(
        title="Dynamic Agents worker",
        version=version("dynamic-agents"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.include_router(health.router)
    app.include_router(metrics.router)
    return app
