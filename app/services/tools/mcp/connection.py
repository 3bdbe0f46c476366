"""A connection to one MCP server, maintained in the background."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import IO, Any, cast

import structlog
from mcp import MCPError
from mcp.client import Client
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, CallToolResult, ToolListChangedNotification
from pydantic import JsonValue, ValidationError

from app.services.tools.mcp.listing import list_tools, log_changes, usable_tools
from app.services.tools.mcp.results import MAX_MESSAGE_CHARACTERS, output_of
from app.services.tools.mcp.settings import McpServerSettings
from app.services.tools.mcp.tools import McpConnectionState, McpServerState, McpTool
from app.services.tools.mcp.transports import client_of
from app.services.tools.outcomes import ToolFailed
from app.telemetry.tracing import hidden_trace

FIND_SECONDS = 5.0
LIST_SECONDS = 15.0
PROBE_SECONDS = 5.0
LOOK_EVERY_SECONDS = 10.0
SETTLE_SECONDS = 0.1
MAX_DETAIL_CHARACTERS = 200
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 30.0

log = structlog.get_logger(__name__)


class McpConnection:
    """One server, connected or being connected."""

    def __init__(
        self,
        name: str,
        settings: McpServerSettings,
        errors: IO[str],
        on_change: Callable[[], None],
        start_seconds: float,
    ) -> None:
        self.name = name
        self.settings = settings
        self.tools: dict[str, McpTool] = {}
        self.tried = asyncio.Event()
        """Set once the first attempt to connect has ended."""
        self.closing = False
        """Set before `keep` is cancelled, because the SDK can turn a cancellation into another error."""
        self._start_seconds = settings.startup_timeout or start_seconds
        self._errors = errors
        self._on_change = on_change
        self._client: Client | None = None
        self._attempted_at: float | None = None
        self._last_problem: str | None = None
        self._connected = asyncio.Event()
        self._awake = asyncio.Event()
        self._is_broken = False
        self._calls = 0
        self._unusable: dict[str, str] = {}
        if settings.disabled:
            self.tried.set()

    @property
    def state(self) -> McpConnectionState:
        """The state of the connection."""
        if self.settings.disabled:
            return McpConnectionState.DISABLED
        if self._client is not None:
            return McpConnectionState.CONNECTED
        return McpConnectionState.UNAVAILABLE if self._attempted_at is None else McpConnectionState.STARTING

    @property
    def problem(self) -> str | None:
        """The reason why it cannot be called, if any."""
        if self.settings.disabled:
            return "it is disabled in the file that MCP_SERVERS names"
        if self._client is not None:
            return None
        if self._attempted_at is None:
            return self._last_problem or "it has not been connected yet"
        seconds = time.monotonic() - self._attempted_at
        before = f"; before that, {self._last_problem}" if self._last_problem else ""
        return f"it has been starting for {seconds:.0f} s of at most {self._start_seconds:g} s{before}"

    def describe(self) -> McpServerState:
        """Return the status of the server."""
        tools = sorted(self.tools.values(), key=lambda tool: tool.name)
        return McpServerState(self.name, self.state, self.settings.transport, self.problem, tools)

    async def keep(self) -> None:
        """Stay connected until cancelled."""
        if self.settings.disabled:
            return
        delay = FIRST_RETRY_SECONDS
        while not self.closing:
            try:
                await self._stay_connected()
            except Exception as error:  # noqa: BLE001 - a foreign program and its SDK may fail in any way
                self._last_problem = self._problem_of(error)
            else:
                self._last_problem, delay = "its connection was lost", FIRST_RETRY_SECONDS
            self._attempted_at = None
            self.tried.set()
            if self.closing:
                return
            log.warning("mcp-server-unavailable", server=self.name, problem=self._last_problem)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    async def find(self, tool: str) -> McpTool | None:
        """Return a tool as the server last described it; waits briefly for the first attempt to connect."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.tried.wait(), FIND_SECONDS)
        return self.tools.get(tool)

    async def call(self, tool: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool; a harmless call is repeated once over a new connection if the old one is lost.

        Raises:
            ToolFailed: the tool failed, or the server is unavailable.
        """
        if not self.settings.allows(tool):
            raise ToolFailed("tool-unavailable", f"The settings of the server {self.name!r} do not allow {tool!r}.")
        try:
            return await self._call(tool, tool_input)
        except ConnectionError:
            if not may_repeat:
                raise self._lost() from None
        await self._connected.wait()
        try:
            return await self._call(tool, tool_input)
        except ConnectionError:
            raise self._lost() from None

    async def _call(self, tool: str, tool_input: dict[str, Any]) -> JsonValue:
        client, known = self._client, self.tools.get(tool)
        if client is None:
            raise ToolFailed("mcp-unavailable", f"The MCP server {self.name!r} is unavailable: {self.problem}.")
        self._calls += 1
        try:
            result = await self._result_of(client, tool, tool_input)
        finally:
            self._calls -= 1
        return await output_of(f"{self.name}/{tool}", result, known.output_schema if known else None)

    async def _result_of(self, client: Client, tool: str, tool_input: dict[str, Any]) -> CallToolResult:
        """Return the result of a call.

        Raises:
            ConnectionError: the connection is lost.
            ToolFailed: the server's answer is an error or unusable; the connection is intact.
        """
        try:
            # The SDK puts the current trace into the request.
            with contextlib.nullcontext() if self.settings.trace_context else hidden_trace():
                return await client.call_tool(tool, tool_input)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError from None
            failure = ToolFailed("tool-error", error.message[:MAX_MESSAGE_CHARACTERS])
            if self._is_answer(error):
                raise failure from None
        except ValidationError:
            # Raised for an answer that was received, so the connection works.
            raise ToolFailed("tool-result-invalid", "The server's answer is not a valid tool result.") from None
        except Exception as error:  # noqa: BLE001 - a foreign program and its SDK may fail in any way
            failure = ToolFailed("tool-result-invalid", f"The server's answer cannot be used ({name_of(error)}).")
        if self._client is not client or await self._is_gone(client):
            raise ConnectionError
        raise failure

    def _is_answer(self, error: MCPError) -> bool:
        """Return whether an error is certainly the server's; over HTTP the SDK creates some itself."""
        return self.settings.transport == "stdio" and error.code != CONNECTION_CLOSED

    async def _is_gone(self, client: Client) -> bool:
        """Return whether the server no longer lists its tools; a busy server may answer late."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await client.list_tools(cache_mode="refresh")
        except TimeoutError:
            if self._calls > 1:
                return False
        except Exception:  # noqa: BLE001, S110 - after any error the connection is unusable
            pass
        else:
            return False
        if self._client is client:
            self._lose()
        return True

    def _lost(self) -> ToolFailed:
        return ToolFailed(
            "mcp-unavailable", f"The connection to the MCP server {self.name!r} was lost during the call."
        )

    def _lose(self) -> None:
        """Stop using the connection; `keep` then opens another one."""
        self._client = None
        self._connected.clear()
        self._is_broken = True
        self._awake.set()

    async def _stay_connected(self) -> None:
        """Connect, and stay until the connection breaks."""
        self._is_broken = False
        self._awake.clear()
        self._attempted_at = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            async with asyncio.timeout(self._start_seconds):
                client = await client_of(self.settings, self._errors, self._on_message, stack)
                client = await stack.enter_async_context(client)
                # The SDK's own check discards the result of a tool; `output_of` checks instead.
                client.session.validate_tool_result = accept_result
                await self._read_tools(client)
            self._client, self._last_problem, self._attempted_at = client, None, None
            self._connected.set()
            self.tried.set()
            log.info("mcp-server-connected", server=self.name, tools=len(self.tools))
            follower = asyncio.create_task(self._follow_changes(client), name=f"changes of {self.name}")
            try:
                await self._watch(client)
            finally:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
                self._lose()

    async def _on_message(self, message: object) -> None:
        """Read the list of tools again when a server says that it has changed."""
        if isinstance(message, ToolListChangedNotification):
            self._awake.set()

    async def _follow_changes(self, client: Client) -> None:
        """Subscribe to changes, as protocol 2026-07-28 requires; older servers notify without a subscription."""
        try:
            async with client.listen(tools_list_changed=True) as subscription:
                async for _ in subscription:
                    self._awake.set()
        except Exception as error:  # noqa: BLE001 - the list is also read every few seconds
            log.debug("mcp-subscription-failed", server=self.name, error=name_of(error))

    async def _watch(self, client: Client) -> None:
        """Read the list of tools periodically and after changes, until the server is lost."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), LOOK_EVERY_SECONDS)
                await asyncio.sleep(SETTLE_SECONDS)  # one read is enough for any number of changes
            if self._is_broken:
                return
            self._awake.clear()
            try:
                async with asyncio.timeout(LIST_SECONDS):
                    await self._read_tools(client)
            except TimeoutError:
                if not self._calls:
                    raise
                log.info("mcp-server-busy", server=self.name, calls=self._calls)
            except MCPError as error:
                if not self._is_answer(error):
                    raise
                log.warning("mcp-tool-list-failed", server=self.name, error=error.message[:MAX_MESSAGE_CHARACTERS])

    async def _read_tools(self, client: Client) -> None:
        """Read the server's list of tools, and notify the listeners when it changed."""
        usable, unusable = usable_tools(self.name, self.settings, await list_tools(client))
        for tool in unusable.keys() - self._unusable.keys():
            log.warning("mcp-tool-unusable", server=self.name, tool=tool, reason=unusable[tool])
        self._unusable = unusable
        if usable != self.tools:
            log_changes(self.name, self.tools, usable)
            self.tools = usable
            self._on_change()

    def _problem_of(self, error: Exception) -> str:
        """Return the reason why an attempt to connect, or a connection, ended."""
        if isinstance(error, TimeoutError):
            if self._attempted_at is None:
                return "it no longer answers"
            return (
                f"it did not start within {self._start_seconds:g} s (raise startupTimeout in its entry, or "
                "MCP_START_SECONDS)"
            )
        first = first_of(error)
        details = f": {first.message[:MAX_DETAIL_CHARACTERS]}" if isinstance(first, MCPError) else ""
        return f"the connection failed ({type(first).__name__}{details})"


async def accept_result(name: str, result: CallToolResult) -> None:
    """Accept any result, in place of the session's own check against the output schema."""


def first_of(error: BaseException) -> BaseException:
    """Return the error itself, or the first one of a group."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = cast("BaseException", error.exceptions[0])
    return error


def name_of(error: BaseException) -> str:
    """Return the name of the error's class, or that of the first error in a group."""
    return type(first_of(error)).__name__
