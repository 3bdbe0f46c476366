"""Opening the connections to MCP servers of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.services.tools.mcp.settings import load_mcp_servers
from app.services.tools.mcp.tools import McpTools, NoServers
from app.settings import Settings


@asynccontextmanager
async def open_mcp(settings: Settings) -> AsyncGenerator[McpTools]:
    """Open the configured MCP servers, which connect in the background.

    Raises:
        StartupError: the file of servers is invalid.
    """
    named = load_mcp_servers(settings.mcp_servers)
    if not named:
        yield NoServers()
        return
    from app.services.tools.mcp.servers import McpServers  # noqa: PLC0415 - importing the SDK takes a second

    servers = McpServers(
        named, log_file=settings.data_dir / "mcp-servers.log", start_seconds=settings.mcp_start_seconds
    )
    servers.start()
    try:
        yield servers
    finally:
        await servers.stop()
