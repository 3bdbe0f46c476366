"""The catalog in the shapes of the API: relations by their natural keys, Payload's array rows as plain lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from app.kit.json_values import JsonObject, clean_json
from app.kit.schemas import ApiModel, Timestamp
from app.models.base import Relation
from app.models.catalog.agent import Agent
from app.models.catalog.catalog_document import CatalogState
from app.models.catalog.custom_tool import CustomTool, ToolSource
from app.models.catalog.department import Department

State = Annotated[
    CatalogState,
    Field(description=("Whether new runs may use the entry, and if not, why. Read-only.")),
]


class DepartmentRead(ApiModel):
    """A department."""

    id: str
    """The document's id in MongoDB (24 hexadecimal characters)."""
    slug: str
    """The department's natural key."""
    name: str
    """The display name."""
    description: str
    """The department's field of work."""
    icon: str | None
    """The name of an icon for user interfaces."""
    color: str | None
    """A color for user interfaces, such as `#8B5CF6`."""
    priority: int
    """1 to 10: the place in an orchestration. Lower numbers run first, equal ones concurrently."""
    is_active: bool
    """Whether new runs may use the department."""
    state: State
    default_model: str
    """The department's default model."""
    max_agent_steps: int
    """The department's default for the model calls of one agent's execution."""
    quality_criteria: list[str]
    """The criteria of the department's work, for its judge."""
    average_execution_time: float | None
    """The mean duration of its executions in milliseconds; `null` before the first one."""
    total_executions: int
    """The number of its executions that have ended."""
    created_at: Timestamp
    """When the document was created."""
    updated_at: Timestamp
    """When the document was last changed."""

    @classmethod
    def of(cls, department: Department) -> "DepartmentRead":
        """Convert a document."""
        changed = {
            "id": str(department.id),
            "state": department.state,
            "quality_criteria": [row.criterion for row in department.quality_criteria],
        }
        return cls.model_validate({**dict(department), **changed})


@dataclass(frozen=True)
class DepartmentDefaults:
    """A department's slug, and the values for its agents that do not set their own."""

    slug: str
    model: str
    max_agent_steps: int

    @classmethod
    def of(cls, department: Department) -> "DepartmentDefaults":
        """Return the defaults in a document."""
        return cls(department.slug, department.default_model, department.max_agent_steps)


NO_DEPARTMENT = DepartmentDefaults.of(Department.model_construct(slug=""))
"""The defaults of an agent whose department no longer exists."""


class AgentRead(ApiModel):
    """An agent."""

    id: str
    """The document's id in MongoDB (24 hexadecimal characters)."""
    agent_id: str
    """The agent's natural key."""
    name: str
    """The display name."""
    description: str
    """The agent's task, as the head of its department reads it."""
    department: str | None
    """The slug of its department; `null` if the department no longer exists."""
    is_department_head: bool
    """Whether the agent plans, reviews and reports for its department."""
    model: str
    """The model that the agent calls, by its catalog name."""
    instructions_prompt: str
    """The agent's instructions: the core of its system prompt."""
    tool_names: list[str]
    """The tools that the agent may call, by name."""
    approval_tools: list[str]
    """Those of its tools whose calls a person must approve, in addition to the tools that require it themselves."""
    max_agent_steps: int
    """The maximum number of model calls that one execution may make before it must answer."""
    specialization: str | None
    """The agent's specialty in a few words."""
    skills: list[str]
    """The agent's skills, in order."""
    is_active: bool
    """Whether new runs may use the agent."""
    state: State
    success_rate: float | None
    """0 to 100: the share of its executions that completed. Cancelled executions do not count."""
    average_execution_time: float | None
    """The mean duration of its executions in milliseconds; `null` before the first one."""
    total_executions: int
    """The number of its executions that have ended."""
    requires_review: bool
    """Whether the head reviews every output of the agent, whatever its score."""
    quality_threshold: float
    """0 to 100, like an execution's `qualityScore`. The `score` of events and gates is 0 to 1."""
    quality_criteria: list[str]
    """The criteria of the agent's work, for its judge."""
    output_schema: dict[str, Any] | None
    """The JSON Schema that `output.data` of its executions has to match; `null` for none."""
    last_executed_at: Timestamp | None
    """When its last execution ended; `null` before the first one."""
    created_at: Timestamp
    """When the document was created."""
    updated_at: Timestamp
    """When the document was last changed."""

    @classmethod
    def of(cls, agent: Agent, departments: Mapping[Relation, DepartmentDefaults]) -> "AgentRead":
        """Convert a document."""
        department = departments.get(agent.department) if agent.department else None
        defaults = department or NO_DEPARTMENT
        changed = {
            "id": str(agent.id),
            "state": agent.state,
            "department": department.slug if department else None,
            "model": agent.model or defaults.model,
            "max_agent_steps": defaults.max_agent_steps if agent.max_agent_steps is None else agent.max_agent_steps,
            "tool_names": agent.granted_tool_names,
            "approval_tools": agent.approved_tool_names,
            "skills": [row.skill for row in agent.skills],
            "quality_criteria": [row.criterion for row in agent.quality_criteria],
            "output_schema": clean_json(agent.output_schema) if isinstance(agent.output_schema, dict) else None,
        }
        return cls.model_validate({**dict(agent), **changed})


class CustomToolSummary(ApiModel):
    """A custom tool without its code."""

    id: str
    """The document's id in MongoDB (24 hexadecimal characters)."""
    tool_name: str
    """The tool's natural key, by which models call it."""
    display_name: str
    """The display name."""
    description: str
    """The tool's purpose, as models read it."""
    input_schema: dict[str, Any]
    """The JSON Schema of the tool's input."""
    example_inputs: list[Any]
    """Inputs that the tool was tested with when it was last saved."""
    departments: list[str]
    """The slugs of the departments whose agents may use the tool."""
    is_global: bool
    """Whether agents of every department may use the tool."""
    is_active: bool
    """Whether new runs may use the tool."""
    state: State
    version: str
    """The semantic version of the code."""
    idempotent: bool
    """Whether a repeated call with the same input has no further effect, so that an interrupted call may run
    again."""
    requires_approval: bool
    """Whether a person must approve each call before it is made."""
    source: ToolSource
    """Where the tool is implemented."""
    total_executions: int
    """The number of calls in runs."""
    last_used_at: Timestamp | None
    """When a run last called the tool; `null` before the first call."""
    created_at: Timestamp
    """When the document was created."""
    updated_at: Timestamp
    """When the document was last changed."""

    @classmethod
    def of(cls, tool: CustomTool, departments: Mapping[Relation, DepartmentDefaults]) -> "CustomToolSummary":
        """Convert a document."""
        return cls.model_validate(tool_fields(tool, departments))


class CustomToolRead(CustomToolSummary):
    """A custom tool."""

    execute_function: str | None = None
    """The tool's JavaScript function. Shown to admins only, `null` for other callers."""

    @classmethod
    def with_code(
        cls, tool: CustomTool, departments: Mapping[Relation, DepartmentDefaults], *, shown: bool
    ) -> "CustomToolRead":
        """Convert a document, with its code if it may be shown."""
        code = tool.execute_function if shown else None
        return cls.model_validate({**tool_fields(tool, departments), "execute_function": code})


def tool_fields(tool: CustomTool, departments: Mapping[Relation, DepartmentDefaults]) -> JsonObject:
    """Return the fields of every response with a tool, from its document."""
    changed = {
        "id": str(tool.id),
        "state": tool.state,
        "example_inputs": [clean_json(row.example) for row in tool.example_inputs],
        "departments": [departments[one].slug for one in tool.departments if one in departments],
        "input_schema": clean_json(tool.input_schema),
    }
    return {**dict(tool), **changed}
