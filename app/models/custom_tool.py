"""A custom tool: the `custom-tools` collection, shared with Payload."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from app.models.base import (
    TIMESTAMP_INDEXES,
    EmbeddedRow,
    PayloadDocument,
    Relation,
    RowId,
    Rows,
    WholeNumber,
    own_index,
    payload_index,
)


class ExampleRow(EmbeddedRow):
    """One example input."""

    example: Any
    id: RowId


class CustomTool(PayloadDocument):
    """A JavaScript function, `(input, context) => result`, with the JSON Schema of its input."""

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
    """Ours, after Payload's fields: whether running it twice with one input does no more than running it once."""

    class Settings:
        """Collection and indexes, as Payload has them."""

        name = "custom-tools"
        keep_nulls = False
        indexes = (*TIMESTAMP_INDEXES, payload_index("toolName", unique=True), own_index("createdAt", "_id"))
