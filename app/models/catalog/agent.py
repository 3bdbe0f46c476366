"""An agent definition: the `agents` collection, shared with Payload."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from pymongo import ASCENDING, IndexModel

from app.models.base import (
    TIMESTAMP_INDEXES,
    CriterionRow,
    CriterionRows,
    EmbeddedRow,
    Relation,
    RowId,
    Rows,
    WholeNumber,
    own_index,
    payload_index,
)
from app.models.catalog.catalog_document import CatalogDocument

ONE_HEAD_INDEX = "department_1_head_unique"


class ToolNameRow(EmbeddedRow):
    """One granted tool."""

    tool_name: str
    id: RowId


class SkillRow(EmbeddedRow):
    """One capability, in words."""

    skill: str
    id: RowId


class Agent(CatalogDocument):
    """A role with instructions, a model and granted tools; `qualityThreshold` and `successRate` are 0 to 100."""

    agent_id: Annotated[str, Field(min_length=1)]
    name: str = ""
    description: str = ""
    department: Relation | None = None
    is_department_head: bool = False
    model: str | None = None
    """The catalog name of its model; without one, the department's `defaultModel`."""
    instructions_prompt: str = ""
    tool_names: Annotated[list[ToolNameRow], Rows] = Field(default_factory=list)
    max_agent_steps: WholeNumber | None = None
    """The model calls of an execution; if unset, the department's `maxAgentSteps`."""
    specialization: str | None = None
    skills: Annotated[list[SkillRow], Rows] = Field(default_factory=list)
    is_active: bool = True
    success_rate: float | None = None
    average_execution_time: float | None = None
    total_executions: WholeNumber = 0
    requires_review: bool = True
    quality_threshold: float = 80
    last_executed_at: datetime | None = None
    payload_version: WholeNumber = Field(default=0, alias="__v")
    approval_tools: Annotated[list[ToolNameRow], Rows] = Field(default_factory=list)
    """The tools whose calls a person must approve."""
    quality_criteria: CriterionRows = Field(default_factory=list[CriterionRow])
    """The criteria of good work, for the judge of its outputs."""
    output_schema: Any = None
    """The JSON Schema that the data of its outputs has to match."""

    class Settings:
        """Collection and indexes: Payload's, and a unique index that allows one head per department."""

        name = "agents"
        keep_nulls = False
        indexes = (
            *TIMESTAMP_INDEXES,
            payload_index("agentId", unique=True),
            own_index("department", "agentId"),
            own_index("isActive", "agentId"),
            own_index("isDepartmentHead", "agentId"),
            own_index("toolNames.toolName"),
            own_index("name", "_id"),
            own_index("createdAt", "_id"),
            IndexModel(
                [("department", ASCENDING)],
                name=ONE_HEAD_INDEX,
                unique=True,
                partialFilterExpression={"isDepartmentHead": True},
            ),
        )

    @property
    def approved_tool_names(self) -> list[str]:
        """The unique names in `approvalTools`, in order."""
        return list(dict.fromkeys(row.tool_name for row in self.approval_tools))

    @property
    def granted_tool_names(self) -> list[str]:
        """The unique names in `toolNames`, in order."""
        return list(dict.fromkeys(row.tool_name for row in self.tool_names))
