"""Test calls of tools: one call as an agent would make it, outside of runs and statistics."""

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field

from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.schemas import ApiModel
from app.models.catalog.custom_tool import CustomTool
from app.services.catalog.definitions import ToolDefinition
from app.services.catalog.input_schemas import CatalogInput
from app.services.catalog.loader import valid
from app.services.catalog.queries import CustomToolNotFound
from app.services.catalog.tool_checker import EXAMPLE_CONTEXT, check_input
from app.services.tools.outcomes import ToolFailed
from app.services.tools.toolbox import Toolbox


class ToolTestInput(CatalogInput):
    """A test call of a tool."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": {"script": "INT. LIGHTHOUSE - NIGHT"}}]})

    input: Any
    """The input to call the tool with. It must match the tool's `inputSchema`."""


class ToolError(ApiModel):
    """The error that a model would receive."""

    code: str = Field(examples=["tool-timeout"])
    """The stable code of the error."""
    message: str
    """The message that a model would receive."""


class ToolFigures(ApiModel):
    """The cost and the log of a call."""

    duration_ms: float
    """The duration of the call in milliseconds."""
    console: list[str]
    """The lines that the tool logged, in order."""
    memory_bytes: int | None
    """The memory that the call used at its peak; `null` if unknown."""


class ToolTestOutcome(ToolFigures):
    """A call that returned a result."""

    output: Any
    """The tool's result, any JSON value."""


class ToolTestFailure(ToolFigures):
    """A call that failed."""

    error: ToolError
    """The error that a model would receive in place of a result."""


@dataclass(frozen=True)
class ToolTester:
    """Runs stored tools, active or not."""

    database: Database
    toolbox: Toolbox

    async def run(self, tool_name: str, wanted: ToolTestInput) -> ToolTestOutcome | ToolTestFailure:
        """Call a tool and return its output or its failure.

        Raises:
            CustomToolNotFound: no tool has this name.
            StoredDocumentInvalid: the stored document is invalid.
        """
        raw = await collection_of(self.database, CustomTool).find_one({"toolName": tool_name})
        if raw is None:
            raise CustomToolNotFound(tool_name)
        tool = ToolDefinition.of(valid(CustomTool, raw, tool_name))
        try:
            await check_input(tool, wanted.input)
            outcome = await self.toolbox.run(tool, wanted.input, EXAMPLE_CONTEXT)
        except ToolFailed as error:
            return ToolTestFailure(
                error=ToolError(code=error.code, message=error.message),
                duration_ms=error.duration_ms or 0.0,
                console=error.console,
                memory_bytes=error.memory_bytes,
            )
        return ToolTestOutcome(
            output=outcome.output,
            duration_ms=outcome.duration_ms,
            console=outcome.console,
            memory_bytes=outcome.memory_bytes,
        )
