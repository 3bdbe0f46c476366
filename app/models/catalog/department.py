"""A department of agents: the `departments` collection, shared with Payload."""

from typing import Annotated

from pydantic import Field

from app.models.base import TIMESTAMP_INDEXES, CriterionRow, CriterionRows, WholeNumber, own_index, payload_index
from app.models.catalog.catalog_document import CatalogDocument


class Department(CatalogDocument):
    """An organizational unit with one head and its specialists; `priority` 1 runs first."""

    slug: Annotated[str, Field(min_length=1)]
    name: str = ""
    description: str = ""
    icon: str | None = None
    color: str | None = None
    priority: WholeNumber = 5
    is_active: bool = True
    default_model: str = "anthropic/claude-sonnet-4.5"
    max_agent_steps: WholeNumber = 20
    average_execution_time: float | None = None
    total_executions: WholeNumber = 0
    payload_version: WholeNumber = Field(default=0, alias="__v")
    quality_criteria: CriterionRows = Field(default_factory=list[CriterionRow])
    """The criteria of good work, for the judge of its outputs."""

    class Settings:
        """Collection and indexes, as in Payload."""

        name = "departments"
        keep_nulls = False
        indexes = (
            *TIMESTAMP_INDEXES,
            payload_index("slug", unique=True),
            own_index("priority", "_id"),
            own_index("name", "_id"),
            own_index("createdAt", "_id"),
        )
