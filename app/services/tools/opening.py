"""Opening the toolbox of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.services.tools.builtin import load_builtin_tools
from app.services.tools.mcp.opening import open_mcp
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.services.tools.toolbox import Toolbox
from app.settings import Settings


@asynccontextmanager
async def open_toolbox(settings: Settings, sandbox: ToolSandbox) -> AsyncGenerator[Toolbox]:
    """Open everything that runs tools: the sandbox, functions of this process and MCP servers.

    Raises:
        StartupError: a module of `TOOL_MODULES` or the file of MCP servers is invalid.
    """
    builtins = load_builtin_tools(settings.tool_modules)
    async with open_mcp(settings) as mcp:
        yield Toolbox(sandbox, settings.tool_timeout_seconds, builtins, mcp)
