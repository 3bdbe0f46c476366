"""Tools written in Python by operators of the service.

A module named in `TOOL_MODULES` defines them:

    @builtin_tool(name="roll", description="Rolls a die.", input_schema={"type": "object"})
    def roll(tool_input, context):
        return {"eyes": secrets.randbelow(6) + 1}

Their code is trusted: it runs in the service. A coroutine function is cancelled at the time limit; a plain function
runs in a thread that cannot be stopped, so it must return on its own.
"""

import asyncio
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog
from pydantic import JsonValue

from app.errors import StartupError
from app.services.tools.outcomes import ToolFailed, checked_output
from app.services.tools.schemas import InvalidSchema, compile_schema

TOOL_NAME = re.compile(r"[a-z][a-zA-Z0-9]*")

Context = Mapping[str, JsonValue]
Function = Callable[[dict[str, Any], Context], object]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BuiltinTool:
    """A function with a tool's catalog fields. `address` names the function in its module."""

    name: str
    display_name: str
    description: str
    input_schema: dict[str, Any]
    function: Function
    version: str
    idempotent: bool

    @property
    def address(self) -> str:
        """The address of the function."""
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', self.name)}"

    async def run(self, tool_input: dict[str, Any], context: Context) -> JsonValue:
        """Call the function.

        Raises:
            ToolFailed: it failed; the model receives the text of a `ValueError`, but only the type of other errors.
        """
        try:
            if inspect.iscoroutinefunction(self.function):
                output = await cast("Awaitable[object]", self.function(tool_input, context))
            else:
                output = await asyncio.to_thread(self.function, tool_input, context)
        except ToolFailed:
            raise
        except ValueError as error:
            raise ToolFailed("tool-error", f"ValueError: {error}") from None
        except Exception as error:
            log.exception("builtin-tool-failed", tool=self.name)
            raise ToolFailed("tool-error", f"The tool failed with {type(error).__name__}.") from None
        return checked_output(output)


def builtin_tool(
    *,
    description: str,
    input_schema: dict[str, Any],
    name: str | None = None,
    display_name: str | None = None,
    version: str = "1.0.0",
    idempotent: bool = False,
) -> Callable[[Function], BuiltinTool]:
    """Turn a function `(input, context) -> result` into a tool, named after the function unless `name` is given.

    Raises:
        StartupError: the tool is not valid for the catalog.
    """

    def make(function: Function) -> BuiltinTool:
        chosen = name or str(getattr(function, "__name__", ""))
        if not TOOL_NAME.fullmatch(chosen):
            raise StartupError(f"The built-in tool {chosen!r} needs a name in camelCase.")
        try:
            compile_schema(input_schema)
        except InvalidSchema as error:
            raise StartupError(f"The input schema of the built-in tool {chosen!r} is invalid: {error}.") from None
        return BuiltinTool(chosen, display_name or chosen, description, input_schema, function, version, idempotent)

    return make


def load_builtin_tools(modules: Iterable[str]) -> dict[str, BuiltinTool]:
    """Return the tools of these modules, by name.

    Raises:
        StartupError: a module cannot be imported, or two tools have the same name.
    """
    tools: dict[str, BuiltinTool] = {}
    for module in modules:
        try:
            found = vars(importlib.import_module(module)).values()
        except ImportError as error:
            raise StartupError(f"TOOL_MODULES is invalid: {module} cannot be imported ({error}).") from None
        for tool in found:
            if not isinstance(tool, BuiltinTool):
                continue
            if tools.setdefault(tool.name, tool) is not tool:
                raise StartupError(f"TOOL_MODULES is invalid: there are two tools named {tool.name!r}.")
    return tools
