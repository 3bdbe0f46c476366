"""MCP servers as far as their SDK is not needed, whose import takes a second: who they are and what they offer."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from app.errors import StartupError
from app.services.tools.names import MCP_PREFIX
from app.services.tools.outcomes import ToolFailed

SERVER_NAME = re.compile(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class McpTool:
    """A tool that a server offers; `idempotent` is what the server says of it."""

    name: str
    description: str
    input_schema: dict[str, Any]
    idempotent: bool


@dataclass(frozen=True)
class McpServerState:
    """How a server is doing: the names of its tools as they are granted, and why it is not connected, if so."""

    name: str
    connected: bool
    tools: list[str] = field(default_factory=list[str])
    problem: str | None = None


class McpTools(Protocol):
    """The tools of the servers that the settings name."""

    async def find(self, name: str) -> McpTool | None:
        """The tool `mcp:server/tool`, as the server last described it."""
        ...

    def problem_with(self, name: str) -> str | None:
        """Why this name cannot be granted, as far as is known now; a server that is away is given the benefit."""
        ...

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """Call a tool.

        Raises:
            ToolFailed: the tool failed, or its server is away.
        """
        ...

    def describe(self) -> list[McpServerState]:
        """How each server is doing."""
        ...

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call this whenever a server's tools are others than before."""
        ...


class NoServers:
    """No servers are named."""

    async def find(self, name: str) -> McpTool | None:
        """There is none."""
        return None

    def problem_with(self, name: str) -> str | None:
        """There is none."""
        return no_server(name)

    async def call(self, name: str, tool_input: dict[str, Any], *, may_repeat: bool) -> JsonValue:
        """There is none to call."""
        raise ToolFailed("mcp-unavailable", no_server(name))

    def describe(self) -> list[McpServerState]:
        """None."""
        return []

    def on_change(self, tell: Callable[[], None]) -> None:
        """They never change."""


def split_name(name: str) -> tuple[str, str]:
    """Server and tool of `mcp:server/tool`."""
    server, _, tool = name.removeprefix(MCP_PREFIX).partition("/")
    return server, tool


def no_server(name: str) -> str:
    """What is wrong with a name whose server the settings do not name."""
    return f"MCP_SERVERS names no server {split_name(name)[0]!r}"


class McpServerSettings(BaseModel):
    """One server in the usual form: a command to start, or a URL."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    headers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def names_one(self) -> "McpServerSettings":
        """A server is either started or reached."""
        if (self.command is None) == (self.url is None):
            raise ValueError("must have either a command or a url")
        return self


def load_mcp_servers(path: Path | None) -> dict[str, McpServerSettings]:
    """The servers that a file names under `mcpServers`; `${NAME}` in a value stands for a variable of the environment.

    Raises:
        StartupError: the file is missing or wrong; no value of it is told.
    """
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        servers = cast("dict[str, Any]", filled(content["mcpServers"]))
        found = {str(name): McpServerSettings.model_validate(server) for name, server in servers.items()}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise StartupError(f"MCP_SERVERS is wrong: {path}: {first['msg']}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"MCP_SERVERS is wrong: {path} cannot be read ({type(error).__name__}).") from None
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        raise StartupError(f"MCP_SERVERS is wrong: {path} must hold an object mcpServers.") from None
    for name in found:
        if not SERVER_NAME.fullmatch(name):
            message = f"MCP_SERVERS is wrong: the name {name!r} must be of letters, digits, '-' and single '_'."
            raise StartupError(message)
    return found


def filled(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with variables of the environment in its texts.

    Raises:
        StartupError: a variable is not set.
    """
    if isinstance(value, str):
        return VARIABLE.sub(variable, value)
    if isinstance(value, dict):
        return {key: filled(one) for key, one in cast("dict[str, Any]", value).items()}
    return [filled(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def variable(found: re.Match[str]) -> str:
    """The value of a variable."""
    value = os.environ.get(found[1])
    if value is None:
        raise StartupError(f"MCP_SERVERS is wrong: the variable {found[1]} is not set.")
    return value


def fitting_schema(schema: object) -> dict[str, Any]:
    """A server's schema of an input, as an object; one that says nothing allows any."""
    found = cast("dict[str, Any]", json.loads(json.dumps(schema))) if isinstance(schema, dict) else {}
    return {"type": "object"} | found
