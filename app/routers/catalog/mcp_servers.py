"""The configured MCP servers and their tools."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, McpDep, ViewerRole
from app.kit.paging import NameSort, slice_page
from app.kit.schemas import ApiModel
from app.routers.http.pages import PageRead, sort_query
from app.routers.http.problems import problem_responses
from app.routers.http.strict_input import StrictRoute
from app.services.tools.mcp.tools import McpConnectionState

router = APIRouter(prefix="/mcp-servers", tags=["custom tools"], route_class=StrictRoute)


class McpToolRead(ApiModel):
    """A tool, as its server declares it."""

    name: str
    """The tool's name on its server."""
    description: str
    """The server's description of the tool, as models read it."""
    idempotent: bool
    """Whether the server declares that the tool only reads, or may run twice."""
    input_schema: dict[str, Any]
    """The JSON Schema of the tool's input, as the server declares it."""


class McpServerRead(ApiModel):
    """An MCP server and its tools."""

    name: str
    """The server's name in the configuration."""
    state: McpConnectionState
    """The state of the connection."""
    connected: bool
    """Whether `state` is `connected`."""
    transport: Literal["stdio", "http", "sse"] | None
    """How the service talks to the server: `stdio` (a child process), `http` (streamable HTTP) or `sse` (HTTP with
    Server-Sent Events). `null` if the entry is invalid."""
    problem: str | None
    """The reason why the server cannot be called; `null` if it can."""
    tools: list[str]
    """The names under which agents are granted the server's tools."""
    tool_details: list[McpToolRead]
    """The tools as the server describes them."""


@router.get(
    "",
    operation_id="listMcpServers",
    response_description="The MCP servers of the page.",
    responses=problem_responses(403),
)
async def list_mcp_servers(
    mcp: McpDep,
    _: ViewerRole,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
    sort: Annotated[NameSort | None, sort_query(name="its name")] = None,
) -> PageRead[McpServerRead]:
    """List the MCP servers with their tools, which agents may name in `toolNames`.

    By default, they are in the order of the configuration.
    """
    servers = [McpServerRead.model_validate(server) for server in mcp.describe()]
    shown, next_cursor = slice_page(servers, limit, cursor, sort)
    return PageRead[McpServerRead](items=list(shown), total=len(servers), next_cursor=next_cursor)
