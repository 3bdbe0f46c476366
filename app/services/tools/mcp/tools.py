"""The status and tools of MCP servers, without the SDK, whose import takes a second."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import JsonValue

from app.kit.described_enums import DescribedEnum
from app.services.tools.names import MCP_PREFIX
from app.services.tools.outcomes import ToolFailed


@dataclass(frozen=True)
class McpTool:
    """A tool that a server offers; `idempotent` is the server's own statement."""

    name: str
    description: str
    input_schema: dict[str, Any]
    idempotent: bool
    output_schema: dict[str, Any] | None = None


class McpConnectionState(DescribedEnum):
    """The state of the connection to an MCP server."""

    STARTING = "starting"
    """The server is being started or connected."""
    CONNECTED = "connected"
    """The server's tools can be called."""
    UNAVAILABLE = "unavailable"
    """The last attempt to connect failed; another one follows."""
    DISABLED = "disabled"
    """The server's entry is disabled."""


@dataclass(frozen=True)
class McpServerState:
    """The status of a server; `tool_details` are its tools as last listed, by name."""

    name: str
    state: McpConnectionState
    transport: str | None
    problem: str | None = None
    tool_details: list[McpTool] = field(default_factory=list[McpTool])

    @property
    def connected(self) -> bool:
        """Whether its tools can be called."""
        return self.state is McpConnectionState.CONNECTED

    @property
    def tools(self) -> list[str]:
        """The names of its tools as they are granted."""
        return [tool.name for tool in self.tool_details]


class McpTools(Protocol):
    """The tools of the configured servers."""

    async def find(self, name: str) -> McpTool | None:
        """Return the tool `mcp:server/tool`, as the server last described it."""
        ...

    def problem_with(self, name: str) -> str | None:
        """Return why this name cannot be granted, if known; the tools of an unavailable server are unknown."""
        ...

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool.

        Raises:
            ToolFailed: the tool failed, or its server is unavailable.
        """
        ...

    def timeout_of(self, name: str) -> float | None:
        """Return the seconds that a call may take by its server's settings; `None` if not set."""
        ...

    def describe(self) -> list[McpServerState]:
        """Return the status of each server."""
        ...

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `listener` whenever the tools of a server have changed."""
        ...


class NoServers:
    """The tools of a process without MCP servers."""

    async def find(self, name: str) -> McpTool | None:
        """Return nothing: there are no servers."""
        return None

    def problem_with(self, name: str) -> str | None:
        """Return that the server is not configured."""
        return no_server(name)

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Fail: the server is not configured."""
        raise ToolFailed("mcp-unavailable", no_server(name))

    def timeout_of(self, name: str) -> float | None:
        """Return `None`: there are no settings."""
        return None

    def describe(self) -> list[McpServerState]:
        """Return nothing: there are no servers."""
        return []

    def on_change(self, tell: Callable[[], None]) -> None:
        """Ignore the listener: there are no tools that could change."""


def split_name(name: str) -> tuple[str, str]:
    """Split `mcp:server/tool` into server and tool."""
    server, _, tool = name.removeprefix(MCP_PREFIX).partition("/")
    return server, tool


def no_server(name: str) -> str:
    """Return the problem of a name whose server is not configured."""
    return f"MCP_SERVERS names no server {split_name(name)[0]!r}"
