"""The catalogue as the API shows it: relations by their natural keys, Payload's array rows as plain lists."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from app.kit.json_values import clean_json
from app.models.agent import Agent
from app.models.base import Relation, iso_milliseconds
from app.models.catalog_document import CatalogState
from app.models.custom_tool import CustomTool, ToolSource
from app.models.department import Department

Timestamp = Annotated[datetime, PlainSerializer(iso_milliseconds, return_type=str, when_used="json")]


State = Annotated[
    CatalogState,
    Field(
        description=(
            "Whether new runs use it: `active`; `inactive` (`isActive` is false); `draft` (never published in the CMS, "
            "or unpublished there); `trashed` (in the trash of the CMS). Read-only."
        )
    ),
]


class ApiModel(BaseModel):
    """What the API answers: camelCase, times in UTC with milliseconds."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class DepartmentRead(ApiModel):
    """A department."""

    id: str
    slug: str
    name: str
    description: str
    icon: str | None
    color: str | None
    priority: int
    is_active: bool
    state: State
    default_model: str
    max_agent_steps: int
    average_execution_time: float | None
    total_executions: int
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, department: Department) -> "DepartmentRead":
        """The shape of a document."""
        return cls.model_validate({**dict(department), "id": str(department.id), "state": department.state})


class AgentRead(ApiModel):
    """An agent; `department` is the department's slug, `null` when the department no longer exists."""

    id: str
    agent_id: str
    name: str
    description: str
    department: str | None
    is_department_head: bool
    model: str
    instructions_prompt: str
    tool_names: list[str]
    max_agent_steps: int
    specialization: str | None
    skills: list[str]
    is_active: bool
    state: State
    success_rate: float | None
    """0 to 100: the share of its executions that were completed, cancelled ones left out."""
    average_execution_time: float | None
    total_executions: int
    requires_review: bool
    quality_threshold: float
    """0 to 100, like an execution's `qualityScore`; the `score` of events and gates is 0 to 1."""
    last_executed_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, agent: Agent, slugs: dict[Relation, str]) -> "AgentRead":
        """The shape of a document; `slugs` gives the slug of each department."""
        changed = {
            "id": str(agent.id),
            "state": agent.state,
            "department": slugs.get(agent.department) if agent.department else None,
            "tool_names": agent.granted_tool_names,
            "skills": [row.skill for row in agent.skills],
        }
        return cls.model_validate({**dict(agent), **changed})


class CustomToolRead(ApiModel):
    """A custom tool; `departments` are slugs, `executeFunction` is shown to admins only.

    `source` is `custom`, or `builtin` for a function of the service's own code, which cannot be changed here.
    """

    id: str
    tool_name: str
    display_name: str
    description: str
    input_schema: dict[str, Any]
    example_inputs: list[Any]
    execute_function: str | None = None
    departments: list[str]
    is_global: bool
    is_active: bool
    state: State
    version: str
    idempotent: bool
    source: ToolSource
    total_executions: int
    last_used_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, tool: CustomTool, slugs: dict[Relation, str], *, with_code: bool) -> "CustomToolRead":
        """The shape of a document."""
        changed = {
            "id": str(tool.id),
            "state": tool.state,
            "example_inputs": [clean_json(row.example) for row in tool.example_inputs],
            "departments": [slugs[relation] for relation in tool.departments if relation in slugs],
            "input_schema": clean_json(tool.input_schema),
            "execute_function": tool.execute_function if with_code else None,
        }
        return cls.model_validate({**dict(tool), **changed})
