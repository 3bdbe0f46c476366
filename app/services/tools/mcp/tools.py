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
    """The last attempt to connect failed; the next one follows."""
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
        """The reason why this name cannot be granted, if known; the tools of an unavailable server are unknown."""
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
    """No servers are named."""

    async def find(self, name: str) -> McpTool | None:
        """No server, no tool."""
        return None

    def problem_with(self, name: str) -> str | None:
        """Its server is not named."""
        return no_server(name)

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Fails: its server is not named."""
        raise ToolFailed("mcp-unavailable", no_server(name))

    def timeout_of(self, name: str) -> float | None:
        """There are no settings."""
        return None

    def describe(self) -> list[McpServerState]:
        """None."""
        return []

    def on_change(self, tell: Callable[[], None]) -> None:
        """Tools never change."""


def split_name(name: str) -> tuple[str, str]:
    """Server and tool of `mcp:server/tool`."""
    server, _, tool = name.removeprefix(MCP_PREFIX).partition("/")
    return server, tool


def no_server(name: str) -> str:
    """The problem of a name whose server is not configured."""
    return f"MCP_SERVERS names no server {split_name(name)[0]!r}"
