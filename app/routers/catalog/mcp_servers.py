"""The MCP servers that the settings name, and what they offer."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, ServicesDep, ViewerRole
from app.kit.paging import slice_page
from app.routers.http.pages import PageRead
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.catalog.schemas import ApiModel
from app.services.tools.mcp.tools import McpConnectionState

router = APIRouter(prefix="/mcp-servers", tags=["custom tools"], route_class=StrictRoute)


class McpToolRead(ApiModel):
    """A tool in its server's own words; `idempotent` when the server says that it only reads, or may run twice."""

    name: str
    description: str
    idempotent: bool
    input_schema: dict[str, Any]


class McpServerRead(ApiModel):
    """A server: its tools by the names under which agents are granted them, and why it cannot be called, if so."""

    name: str
    state: Annotated[
        McpConnectionState,
        Field(
            description=(
                "`connected`; `starting` (being started or connected); `unavailable` (waiting for the next attempt); "
                "`disabled` (switched off in its entry)."
            )
        ),
    ]
    connected: bool
    transport: Literal["stdio", "http", "sse"] | None
    problem: str | None
    tools: list[str]
    tool_details: list[McpToolRead]


@router.get("", operation_id="listMcpServers", responses=problem_responses(403))
async def list_mcp_servers(
    services: ServicesDep, _: ViewerRole, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> PageRead[McpServerRead]:
    """List the MCP servers; their tools can be named in an agent's `toolNames`."""
    servers = [McpServerRead.model_validate(server) for server in services.tool_tester.toolbox.mcp.describe()]
    shown, next_cursor = slice_page([server.name for server in servers], limit, cursor)
    return PageRead[McpServerRead](items=servers[shown], total=len(servers), next_cursor=next_cursor)
