"""MCP servers with one connection each, maintained in the background. Their tools are granted like all others.

The service starts without waiting for its servers, and reconnects a server that dies. A server's list of
tools is read again when the server says that it has changed, and every few seconds, which also shows whether it is
alive. Of these modules, `settings.py` and `tools.py` do not need the SDK, whose import takes a second.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import structlog
from pydantic import JsonValue

from app.services.tools.mcp.connection import McpConnection
from app.services.tools.mcp.settings import McpServerSettings
from app.services.tools.mcp.tools import McpConnectionState, McpServerState, McpTool, no_server, split_name
from app.services.tools.outcomes import ToolFailed

START_SECONDS = 120.0
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class McpServers:
    """The configured servers; a server may take `start_seconds` to start, unless its entry sets another limit."""

    def __init__(
        self, servers: dict[str, McpServerSettings], *, log_file: Path, start_seconds: float = START_SECONDS
    ) -> None:
        self._errors = open_log(log_file)
        self._connections = {
            name: McpConnection(name, settings, self._errors, self._changed, start_seconds)
            for name, settings in servers.items()
        }
        self._listeners: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start connecting, and return at once."""
        self._tasks = [
            asyncio.create_task(connection.keep(), name=f"MCP server {connection.name}")
            for connection in self._connections.values()
        ]

    async def stop(self) -> None:
        """Close the connections and stop the servers that were started."""
        for connection in self._connections.values():
            connection.closing = True
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=STOP_SECONDS)
        self._errors.close()

    async def first_attempts(self, seconds: float) -> None:
        """Wait until each server is connected or has failed, at most `seconds`."""
        waiting = [asyncio.create_task(connection.tried.wait()) for connection in self._connections.values()]
        if waiting:
            _, left = await asyncio.wait(waiting, timeout=seconds)
            for task in left:
                task.cancel()

    async def find(self, name: str) -> McpTool | None:
        """Return the tool `mcp:server/tool`, as its server last described it."""
        server, tool = split_name(name)
        connection = self._connections.get(server)
        return await connection.find(tool) if connection else None

    def problem_with(self, name: str) -> str | None:
        """Return why this name cannot be granted, if known; the tools of an unavailable server are unknown."""
        server, tool = split_name(name)
        connection = self._connections.get(server)
        if connection is None:
            return no_server(name)
        if not connection.settings.allows(tool):
            return f"the settings of the server {server!r} do not allow the tool {tool!r}"
        if connection.state is McpConnectionState.DISABLED:
            return f"the server {server!r} is disabled in the file that MCP_SERVERS names"
        if connection.state is McpConnectionState.CONNECTED and tool not in connection.tools:
            return f"the server {server!r} offers no tool {tool!r}"
        return None

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool.

        Raises:
            ToolFailed: the tool failed, or its server is unavailable.
        """
        server, tool = split_name(name)
        connection = self._connections.get(server)
        if connection is None:
            raise ToolFailed("mcp-unavailable", f"{no_server(name)}.")
        return await connection.call(tool, tool_input, may_repeat=may_repeat)

    def timeout_of(self, name: str) -> float | None:
        """Return the seconds that a call may take by its server's settings; `None` if not set."""
        connection = self._connections.get(split_name(name)[0])
        return connection.settings.timeout if connection else None

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `listener` whenever the tools of a server have changed."""
        self._listeners.append(tell)

    def _changed(self) -> None:
        for tell in self._listeners:
            tell()

    def describe(self) -> list[McpServerState]:
        """Return the status of each server."""
        return [connection.describe() for connection in self._connections.values()]


def open_log(path: Path) -> TextIO:
    """Open the log of the servers' standard error, which is lost if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        log.warning("mcp-log-not-written", path=str(path), error=type(error).__name__)
        return Path(os.devnull).open("a", encoding="utf-8")
