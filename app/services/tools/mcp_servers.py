"""MCP servers: one connection each, kept up in the background; their tools can be granted like any other.

The only module that knows the SDK. Whoever starts the service does not wait for its servers, and a server that dies is
connected again. A server's list of tools is read again every few seconds, which also shows whether it is alive.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import httpx2
import structlog
from mcp import MCPError, StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import REQUEST_TIMEOUT, CallToolResult, TextContent, Tool
from pydantic import JsonValue

from app.services.tools.mcp_tools import (
    McpServerSettings,
    McpServerState,
    McpTool,
    fitting_schema,
    no_server,
    split_name,
)
from app.services.tools.names import MCP_PREFIX, MCP_TOOL_NAME
from app.services.tools.outcomes import ToolFailed, checked_output

CONNECT_SECONDS = 15.0
FIND_SECONDS = 5.0
LOOK_EVERY_SECONDS = 10.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 30.0
STOP_SECONDS = 5.0
MAX_PAGES = 20
MAX_MESSAGE_CHARACTERS = 2000
TOOL_NAME = re.compile(MCP_TOOL_NAME)

log = structlog.get_logger(__name__)


class McpConnection:
    """One server: connected, or on the way to be."""

    def __init__(self, name: str, settings: McpServerSettings, errors: IO[str], on_change: Callable[[], None]) -> None:
        self.name = name
        self.tools: dict[str, McpTool] = {}
        self.problem: str | None = "it has not been connected yet"
        self.closing = False
        """Set before `keep` is cancelled: the SDK may turn a cancellation into an error of its own."""
        self._settings = settings
        self._errors = errors
        self._on_change = on_change
        self._client: Client | None = None
        self._tried = asyncio.Event()
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether it can be called."""
        return self._client is not None

    async def keep(self) -> None:
        """Stay connected until cancelled."""
        delay = FIRST_RETRY_SECONDS
        while not self.closing:
            try:
                await self._stay_connected()
            except Exception as error:  # noqa: BLE001 - a foreign program and its SDK may fail in any way
                self.problem = f"it cannot be connected ({name_of(error)})"
            else:
                self.problem, delay = "its connection was lost", FIRST_RETRY_SECONDS
            self._tried.set()
            if self.closing:
                return
            log.warning("mcp-server-away", server=self.name, problem=self.problem)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    async def find(self, tool: str) -> McpTool | None:
        """A tool as the server last described it; the first attempt to connect is waited for, a moment long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), FIND_SECONDS)
        return self.tools.get(tool)

    async def call(self, tool: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool; where that does no harm, once more over a new connection when the old one turns out dead.

        Raises:
            ToolFailed: the tool failed, or the server is away.
        """
        try:
            return output_of(await self._call(tool, tool_input))
        except ConnectionError:
            if not may_repeat:
                raise ToolFailed("mcp-unavailable", f"The MCP server {self.name!r} was lost in the call.") from None
        await self._connected.wait()
        try:
            return output_of(await self._call(tool, tool_input))
        except ConnectionError:
            raise ToolFailed("mcp-unavailable", f"The MCP server {self.name!r} was lost in the call.") from None

    async def _call(self, tool: str, tool_input: dict[str, Any]) -> CallToolResult:
        client = self._client
        if client is None:
            raise ToolFailed("mcp-unavailable", f"The MCP server {self.name!r} is away: {self.problem}.")
        try:
            return await client.call_tool(tool, tool_input)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError from None
            if self._client is not client or await self._is_gone(client):
                raise ConnectionError from None
            raise ToolFailed("tool-error", error.message[:MAX_MESSAGE_CHARACTERS]) from None
        except Exception as error:
            self._lose()
            raise ConnectionError from error

    async def _is_gone(self, client: Client) -> bool:
        """Whether the server no longer even lists its tools."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await client.list_tools(cache_mode="refresh")
        except Exception:  # noqa: BLE001 - whatever it is, the connection is of no use
            self._lose()
            return True
        return False

    def _lose(self) -> None:
        """Use the connection no more; whoever keeps it makes another."""
        self._client = None
        self._connected.clear()
        self._broken.set()

    async def _stay_connected(self) -> None:
        """Connect, and stay until the connection breaks."""
        self._broken.clear()
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await stack.enter_async_context(await self._client_on(stack))
                await self._read_tools(client)
            self._client, self.problem = client, None
            self._connected.set()
            self._tried.set()
            log.info("mcp-server-connected", server=self.name, tools=len(self.tools))
            try:
                await self._watch(client)
            finally:
                self._lose()

    async def _client_on(self, stack: contextlib.AsyncExitStack) -> Client:
        """A client over the transport that the settings name."""
        given = self._settings
        if given.url is not None:
            timeout = httpx2.Timeout(CONNECT_SECONDS, read=None)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=given.headers, timeout=timeout))
            return Client(streamable_http_client(given.url, http_client=http))
        parameters = StdioServerParameters(command=given.command or "", args=given.args, env=given.env, cwd=given.cwd)
        return Client(stdio_client(parameters, cast("Any", self._errors)))

    async def _watch(self, client: Client) -> None:
        """Look after the server until it is gone."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), LOOK_EVERY_SECONDS)
                return
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._read_tools(client)

    async def _read_tools(self, client: Client) -> None:
        """Read the server's list of tools; who uses the old one is told when it changes."""
        found: dict[str, McpTool] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="refresh")
            found |= {tool.name: described(self.name, tool) for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None:
                break
        usable = {name: tool for name, tool in found.items() if TOOL_NAME.fullmatch(tool.name)}
        if usable != self.tools:
            self.tools = usable
            self._on_change()


class McpServers:
    """The servers that the settings name."""

    def __init__(self, servers: dict[str, McpServerSettings], *, log_file: Path) -> None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._errors = log_file.open("a", encoding="utf-8")
        self._connections = {
            name: McpConnection(name, settings, self._errors, self._changed) for name, settings in servers.items()
        }
        self._listeners: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._tasks = [
            asyncio.create_task(connection.keep(), name=f"MCP server {connection.name}")
            for connection in self._connections.values()
        ]

    async def stop(self) -> None:
        """Close the connections and end the servers that were started."""
        for connection in self._connections.values():
            connection.closing = True
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=STOP_SECONDS)
        self._errors.close()

    async def find(self, name: str) -> McpTool | None:
        """The tool `mcp:server/tool`, as its server last described it."""
        server, tool = split_name(name)
        connection = self._connections.get(server)
        return await connection.find(tool) if connection else None

    def problem_with(self, name: str) -> str | None:
        """Why this name cannot be granted, as far as is known now; a server that is away is given the benefit."""
        server, tool = split_name(name)
        connection = self._connections.get(server)
        if connection is None:
            return no_server(name)
        if connection.is_connected and tool not in connection.tools:
            return f"the server {server!r} offers no tool {tool!r}"
        return None

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool.

        Raises:
            ToolFailed: the tool failed, or its server is away.
        """
        server, tool = split_name(name)
        connection = self._connections.get(server)
        if connection is None:
            raise ToolFailed("mcp-unavailable", f"{no_server(name)}.")
        return await connection.call(tool, tool_input, may_repeat=may_repeat)

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call this whenever a server's tools are others than before."""
        self._listeners.append(tell)

    def _changed(self) -> None:
        for tell in self._listeners:
            tell()

    def describe(self) -> list[McpServerState]:
        """How each server is doing."""
        return [
            McpServerState(one.name, one.is_connected, sorted(tool.name for tool in one.tools.values()), one.problem)
            for one in self._connections.values()
        ]


def described(server: str, tool: Tool) -> McpTool:
    """A tool as the SDK has it; one that only reads can be called again, too."""
    hints = tool.annotations
    return McpTool(
        name=f"{MCP_PREFIX}{server}/{tool.name}",
        description=tool.description or tool.title or tool.name,
        input_schema=fitting_schema(tool.input_schema),
        idempotent=bool(hints and (hints.idempotent_hint or hints.read_only_hint)),
    )


def output_of(result: CallToolResult) -> JsonValue:
    """What a call gave: its structured content, else its text; other content is named, not carried.

    Raises:
        ToolFailed: the tool says that it failed, or its output is none.
    """
    text = "\n".join(block.text if isinstance(block, TextContent) else f"[{block.type}]" for block in result.content)
    if result.is_error:
        raise ToolFailed("tool-error", text[:MAX_MESSAGE_CHARACTERS] or "The tool failed without a word.")
    return checked_output(text if result.structured_content is None else result.structured_content)


def name_of(error: BaseException) -> str:
    """The kind of error, of a group that of its first one."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = cast("BaseException", error.exceptions[0])
    return type(error).__name__
