"""A custom tool: the `custom-tools` collection, shared with Payload."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.kit.described_enums import DescribedEnum
from app.models.base import (
    TIMESTAMP_INDEXES,
    EmbeddedRow,
    Relation,
    RowId,
    Rows,
    WholeNumber,
    own_index,
    payload_index,
)
from app.models.catalog.catalog_document import CatalogDocument


class ToolSource(DescribedEnum):
    """The kind of a tool; tools of MCP servers are never stored."""

    CUSTOM = "custom"
    """A JavaScript function that runs in the sandbox."""
    BUILTIN = "builtin"
    """A Python function of the service, which the API cannot change."""
    MCP = "mcp"
    """A tool of an MCP server."""


def known_source(value: object) -> object:
    """Any other stored value counts as a custom tool."""
    return ToolSource.BUILTIN if value == ToolSource.BUILTIN else ToolSource.CUSTOM


class ExampleRow(EmbeddedRow):
    """One example input."""

    example: Any
    id: RowId


class CustomTool(CatalogDocument):
    """A JavaScript function, `(input, context) => result`, with the JSON Schema of its input.

    Fields after Payload's own belong to the service. `idempotent` means that a repeated call with the same input has no
    further effect, `requiresApproval` that a person must approve each call. A tool with the `source` `builtin`
    represents the Python function of the same name.
    """

    tool_name: Annotated[str, Field(min_length=1)]
    display_name: str = ""
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)
    example_inputs: Annotated[list[ExampleRow], Rows] = Field(default_factory=list)
    execute_function: str = ""
    departments: Annotated[list[Relation], Rows] = Field(default_factory=list)
    is_global: bool = False
    is_active: bool = True
    version: str = "1.0.0"
    total_executions: WholeNumber = 0
    last_used_at: datetime | None = None
    payload_version: WholeNumber = Field(default=0, alias="__v")
    idempotent: bool = False
    requires_approval: bool = False
    source: Annotated[ToolSource, BeforeValidator(known_source)] = ToolSource.CUSTOM

    class Settings:
        """Collection and indexes, as in Payload."""

        name = "custom-tools"
        keep_nulls = False
        indexes = (*TIMESTAMP_INDEXES, payload_index("toolName", unique=True), own_index("createdAt", "_id"))
