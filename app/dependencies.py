"""Dependencies of routes: services of this process, and the caller with the role that a route requires."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Security
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyHeader, HTTPBearer

from app.database.connection import Database
from app.events.stream.bus import EventBus
from app.events.stream.hub import EventHub
from app.kit.paging import DEFAULT_LIMIT, MAX_LIMIT
from app.models.api_key import Role
from app.services.access.admin_key import AdminKey
from app.services.access.api_keys import ApiKeyStore, Caller
from app.services.access.authenticator import Authenticator, key_in, require, require_all_projects
from app.services.access.credential_watch import CredentialWatch
from app.services.access.sign_in_code import SignInCode
from app.services.access.stream_tickets import StreamTickets
from app.services.audit.opening import AuditLog
from app.services.catalog.editor import CatalogEditor
from app.services.catalog.queries import CatalogQueries
from app.services.catalog.tool_tester import ToolTester
from app.services.llm.gateway import ModelGateway
from app.services.quality.analytics import QualityQueries
from app.services.quality.weights import WeightStore
from app.services.runs.accept.starter import RunStarter
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.lifecycle.approvals import ApprovalService
from app.services.runs.lifecycle.control import ExecutionControl
from app.services.runs.lifecycle.reviews import ReviewService
from app.services.runs.queries.approvals import ApprovalQueries
from app.services.runs.queries.calls import CallQueries
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.queries.prompts import PromptQueries
from app.services.tools.mcp.tools import McpTools
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.services.usage.analytics import UsageQueries
from app.services.usage.budgets.budgets import Budgets
from app.services.usage.open_streams import OpenStreams
from app.settings import Settings
from app.telemetry.tracing import Traces


@dataclass(frozen=True)
class Services:
    """The services of a process."""

    settings: Settings
    database: Database
    bus: EventBus
    hub: EventHub
    catalog: CatalogQueries
    editor: CatalogEditor
    tool_tester: ToolTester
    mcp: McpTools
    sandbox: ToolSandbox
    executions: ExecutionQueries
    weights: WeightStore
    quality: QualityQueries
    usage: UsageQueries
    models: ModelGateway
    engine: RunEngine
    starter: RunStarter
    control: ExecutionControl
    reviews: ReviewService
    approvals: ApprovalService
    prompts: PromptQueries
    admin_key: AdminKey
    credentials: CredentialWatch
    streams: OpenStreams
    tickets: StreamTickets
    budgets: Budgets
    traces: Traces
    audit: AuditLog

    @cached_property
    def sign_in_code(self) -> SignInCode:
        """The code of the link that opens the console signed in."""
        return SignInCode(self.admin_key.text)

    @property
    def authenticator(self) -> Authenticator:
        """Identifies callers by their credentials."""
        return self.credentials.authenticator


def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the process that handles a connection."""
    return cast("Services", connection.app.state.services)


def provided(pick: Callable[[Services], object]) -> Any:  # noqa: ANN401 - FastAPI's marker has no public type
    """Make one of the services a dependency of a route.

    The dependency is a coroutine because FastAPI runs any other function in a thread.
    """

    async def provide(connection: HTTPConnection) -> object:
        return pick(services_of(connection))

    return Depends(provide)


SettingsDep = Annotated[Settings, provided(lambda services: services.settings)]
DatabaseDep = Annotated[Database, provided(lambda services: services.database)]
HubDep = Annotated[EventHub, provided(lambda services: services.hub)]
CatalogDep = Annotated[CatalogQueries, provided(lambda services: services.catalog)]
EditorDep = Annotated[CatalogEditor, provided(lambda services: services.editor)]
ToolTesterDep = Annotated[ToolTester, provided(lambda services: services.tool_tester)]
McpDep = Annotated[McpTools, provided(lambda services: services.mcp)]
CallsDep = Annotated[CallQueries, provided(lambda services: CallQueries(services.database, services.executions))]
ExecutionQueriesDep = Annotated[ExecutionQueries, provided(lambda services: services.executions)]
WeightsDep = Annotated[WeightStore, provided(lambda services: services.weights)]
QualityDep = Annotated[QualityQueries, provided(lambda services: services.quality)]
UsageDep = Annotated[UsageQueries, provided(lambda services: services.usage)]
ModelsDep = Annotated[ModelGateway, provided(lambda services: services.models)]
EngineDep = Annotated[RunEngine, provided(lambda services: services.engine)]
StarterDep = Annotated[RunStarter, provided(lambda services: services.starter)]
ControlDep = Annotated[ExecutionControl, provided(lambda services: services.control)]
ReviewsDep = Annotated[ReviewService, provided(lambda services: services.reviews)]
ApprovalsDep = Annotated[ApprovalService, provided(lambda services: services.approvals)]
ApprovalQueriesDep = Annotated[ApprovalQueries, provided(lambda services: services.approvals.queries)]
PromptsDep = Annotated[PromptQueries, provided(lambda services: services.prompts)]
SignInCodeDep = Annotated[SignInCode, provided(lambda services: services.sign_in_code)]
AuthenticatorDep = Annotated[Authenticator, provided(lambda services: services.authenticator)]
ApiKeysDep = Annotated[ApiKeyStore, provided(lambda services: services.authenticator.keys)]
CredentialsDep = Annotated[CredentialWatch, provided(lambda services: services.credentials)]
StreamsDep = Annotated[OpenStreams, provided(lambda services: services.streams)]
BudgetsDep = Annotated[Budgets, provided(lambda services: services.budgets)]
AuditDep = Annotated[AuditLog, provided(lambda services: services.audit)]
TicketsDep = Annotated[StreamTickets, provided(lambda services: services.tickets)]

bearer = HTTPBearer(auto_error=False, description="An API key: `Authorization: Bearer KEY`.")
header_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key.")


def address_of(connection: HTTPConnection) -> str:
    """Return the address that a request comes from."""
    return connection.client.host if connection.client else ""


def stream_key(caller: Caller, connection: HTTPConnection) -> str:
    """Return the key that counts a caller's open streams: its API key, or its address if it has none."""
    return caller.id or f"address:{address_of(connection)}"


async def identify(connection: HTTPConnection) -> Caller:
    """Identify the caller, once per request."""
    state = connection.state
    if not hasattr(state, "caller"):
        authenticator = services_of(connection).authenticator
        state.caller = await authenticator.identify(connection.headers, address_of(connection))
        state.credential = key_in(connection.headers)
    return cast("Caller", state.caller)


def credential_of(connection: HTTPConnection) -> str | None:
    """Return the key or token of the identified caller, `None` if it is anonymous."""
    return cast("str | None", connection.state.credential)


async def identify_follower(connection: HTTPConnection) -> Caller:
    """Identify the caller of an execution's stream by its key, else by its ticket."""
    ticket, state = connection.query_params.get("ticket"), connection.state
    if ticket is None or key_in(connection.headers) is not None:
        return await identify(connection)
    if not hasattr(state, "caller"):
        services = services_of(connection)
        state.credential = await services.tickets.find_credential(ticket, connection.path_params["execution_id"])
        state.caller = await services.authenticator.identify_ticket(ticket, state.credential, address_of(connection))
        state.credential = state.credential or None
    return cast("Caller", state.caller)


async def any_caller(
    connection: HTTPConnection,
    _bearer: Annotated[object, Security(bearer)],
    _header_key: Annotated[object, Security(header_key)],
) -> Caller:
    """Accept any caller, but refuse invalid credentials even if a route requires none.

    FastAPI's own schemes are parameters only for the OpenAPI description.
    """
    return await identify(connection)


async def viewer(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller that may read executions, events and analytics."""
    return require(caller, Role.VIEWER)


async def follower(
    connection: HTTPConnection,
    _bearer: Annotated[object, Security(bearer)],
    _header_key: Annotated[object, Security(header_key)],
    _ticket: Annotated[
        str | None,
        Query(
            alias="ticket",
            description="A ticket from `POST /executions/{executionId}/stream-ticket`, in place of a key.",
        ),
    ] = None,
) -> Caller:
    """Require a viewer with a key, or with a ticket for this stream."""
    return require(await identify_follower(connection), Role.VIEWER)


async def runner(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller that may also start runs."""
    return require(caller, Role.RUNNER)


async def admin(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Require a caller that may also edit."""
    return require(caller, Role.ADMIN)


async def service_admin(caller: Annotated[Caller, Depends(admin)]) -> Caller:
    """Require a caller that may also edit entries that all projects share."""
    return require_all_projects(caller)


ROLE_CHECKS: tuple[Callable[[Caller], Awaitable[Caller]], ...] = (viewer, runner, admin, service_admin)
"""The dependencies that refuse some callers."""

AnyCaller = Annotated[Caller, Depends(any_caller)]
ViewerRole = Annotated[Caller, Depends(viewer)]
FollowerRole = Annotated[Caller, Depends(follower)]
RunnerRole = Annotated[Caller, Depends(runner)]
AdminRole = Annotated[Caller, Depends(admin)]
ServiceAdmin = Annotated[Caller, Depends(service_admin)]

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="The maximum number of items on the page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="The `nextCursor` of the previous page.")]
DEFAULT_PAGE = DEFAULT_LIMIT
