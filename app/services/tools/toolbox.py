"""One interface for everything that runs tools: the sandbox, Python functions, MCP servers."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import JsonValue

from app.models.catalog.custom_tool import ToolSource
from app.services.tools.builtin import BuiltinTool
from app.services.tools.mcp.tools import McpTools, NoServers
from app.services.tools.outcomes import ToolFailed, ToolOutcome
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox, milliseconds_since


class RunnableTool(Protocol):
    """The definition of a tool to run."""

    @property
    def name(self) -> str:
        """The name under which the tool is granted."""
        ...

    @property
    def source(self) -> ToolSource:
        """The kind of the tool."""
        ...

    @property
    def code(self) -> str:
        """The JavaScript of a catalog tool."""
        ...

    @property
    def may_run_again(self) -> bool:
        """Whether a call with an unknown outcome can be repeated."""
        ...


@dataclass(frozen=True)
class Toolbox:
    """Runs tools of every kind with a time limit and the same outcomes and errors."""

    sandbox: ToolSandbox
    timeout_seconds: float
    builtins: Mapping[str, BuiltinTool] = field(default_factory=dict[str, BuiltinTool])
    mcp: McpTools = field(default_factory=NoServers)

    async def run(
        self, tool: RunnableTool, tool_input: dict[str, Any], context: Mapping[str, JsonValue]
    ) -> ToolOutcome:
        """Call a tool with an input that its schema allows.

        Raises:
            ToolFailed: the call failed; the code says why.
        """
        if tool.source == ToolSource.CUSTOM:
            return await self.sandbox.run(ToolInvocation(tool.code, tool_input, context))
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._seconds_for(tool)):
                output = await self._run_outside(tool, tool_input, context)
        except TimeoutError:
            error = ToolFailed("tool-timeout", "The tool did not finish in time.")
        except ToolFailed as failed:
            error = failed
        else:
            return ToolOutcome(output, milliseconds_since(started))
        error.duration_ms = milliseconds_since(started)
        raise error

    def _seconds_for(self, tool: RunnableTool) -> float:
        """Return the seconds that a call may take; the settings of a tool's MCP server can override them."""
        own = self.mcp.timeout_of(tool.name) if tool.source == ToolSource.MCP else None
        return self.timeout_seconds if own is None else own

    async def _run_outside(
        self, tool: RunnableTool, tool_input: dict[str, Any], context: Mapping[str, JsonValue]
    ) -> JsonValue:
        """Return the output of a tool that does not run in the sandbox."""
        if tool.source == ToolSource.MCP:
            return await self.mcp.call(tool.name, tool_input, may_repeat=tool.may_run_again)
        builtin = self.builtins.get(tool.name)
        if builtin is None:
            raise ToolFailed("tool-unavailable", f"The built-in tool {tool.name!r} is not part of this service.")
        return await builtin.run(tool_input, context)
