"""The MCP servers that the settings name, and what they offer."""

from fastapi import APIRouter

from app.dependencies import ServicesDep, ViewerRole
from app.routers.problems import problem_responses
from app.routers.strict_input import StrictRoute
from app.services.catalog.shapes import Shape

router = APIRouter(prefix="/mcp-servers", tags=["custom tools"], route_class=StrictRoute)


class McpServerRead(Shape):
    """A server: its tools by the names under which agents are granted them, and why it is away, if it is."""

    name: str
    connected: bool
    tools: list[str]
    problem: str | None


class McpServerList(Shape):
    """All servers; always one page."""

    items: list[McpServerRead]
    total: int
    next_cursor: str | None = None


@router.get("", operation_id="listMcpServers", responses=problem_responses(403))
async def list_mcp_servers(services: ServicesDep, _: ViewerRole) -> McpServerList:
    """List the MCP servers; their tools can be named in an agent's `toolNames`."""
    servers = [McpServerRead.model_validate(server) for server in services.trials.toolbox.mcp.describe()]
    return McpServerList(items=servers, total=len(servers))
