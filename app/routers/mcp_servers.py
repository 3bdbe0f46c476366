"""The MCP servers that the settings name, and what they offer."""

from fastapi import APIRouter

from app.dependencies import DEFAULT_PAGE, Cursor, Limit, ServicesDep, ViewerRole
from app.routers.pages import PageRead
from app.routers.problems import problem_responses
from app.routers.strict_input import StrictRoute
from app.services.catalog.shapes import Shape
from app.services.paging import slice_page

router = APIRouter(prefix="/mcp-servers", tags=["custom tools"], route_class=StrictRoute)


class McpServerRead(Shape):
    """A server: its tools by the names under which agents are granted them, and why it is away, if it is."""

    name: str
    connected: bool
    tools: list[str]
    problem: str | None


@router.get("", operation_id="listMcpServers", responses=problem_responses(403))
async def list_mcp_servers(
    services: ServicesDep, _: ViewerRole, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> PageRead[McpServerRead]:
    """List the MCP servers; their tools can be named in an agent's `toolNames`."""
    servers = [McpServerRead.model_validate(server) for server in services.trials.toolbox.mcp.describe()]
    shown, next_cursor = slice_page([server.name for server in servers], limit, cursor)
    return PageRead[McpServerRead](items=servers[shown], total=len(servers), next_cursor=next_cursor)
