"""Inputs of the catalog API, with the rules that do not need the database.

A `…Create` is a complete entry. A `…Update` is a merge patch: omitted fields stay unchanged, `null` clears an optional
field. The defaults of an update mean "omitted" and are never stored.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.kit.json_values import JsonObject
from app.kit.validation_words import worded
from app.models.base import MAX_CRITERIA, MAX_CRITERION_CHARACTERS
from app.models.catalog.quality_weights import DEFAULT_SLUG
from app.services.tools.names import MCP_TOOL_NAME

READ_ONLY = frozenset(
    {
        "id",
        "createdAt",
        "updatedAt",
        "totalExecutions",
        "averageExecutionTime",
        "successRate",
        "lastExecutedAt",
        "lastUsedAt",
        "source",
        "state",
    }
)
"""Fields that the service maintains. Requests may contain them, without effect."""

SLUG = worded(r"^[a-z0-9-]+$", "must consist of lower-case letters, digits and hyphens, such as 'music-rights'")
Slug = Annotated[str, Field(pattern=SLUG, max_length=100, examples=["story"])]


def not_default(slug: str) -> str:
    """Accept a slug that is not reserved."""
    if slug == DEFAULT_SLUG:
        raise ValueError(f"must not be {DEFAULT_SLUG!r}, which names the quality weights of all other departments")
    return slug


DepartmentSlug = Annotated[Slug, AfterValidator(not_default)]
AGENT_ID = worded(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    "must consist of letters, digits, dots, underscores and hyphens, and begin with a letter or digit",
)
AgentId = Annotated[str, Field(pattern=AGENT_ID, max_length=100, examples=["plot-specialist-002"])]
TOOL_NAME = worded(
    r"^[a-z][a-zA-Z0-9]*$",
    "must begin with a lower-case letter and consist of letters and digits, such as 'countScenes'",
)
ToolName = Annotated[str, Field(pattern=TOOL_NAME, max_length=64, examples=["countScenes"])]
GRANTED_TOOL = worded(
    rf"^([a-z][a-zA-Z0-9]*|{MCP_TOOL_NAME})$",
    "must be the name of a tool, such as 'countScenes' or 'mcp:files/read_file'",
)
GrantedTool = Annotated[str, Field(pattern=GRANTED_TOOL, max_length=200, examples=["countScenes"])]


def not_blank(text: str) -> str:
    """Accept text that is not blank."""
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Name = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": r"\S"}), AfterValidator(not_blank)
]
Prose = Annotated[str, Field(min_length=1, max_length=20_000)]
Instructions = Annotated[str, Field(min_length=1, max_length=200_000)]
COLOR = worded(r"^#[0-9A-Fa-f]{6}$", "must be a color such as '#8B5CF6'")
Color = Annotated[str, Field(pattern=COLOR, examples=["#8B5CF6"])]
Steps = Annotated[int, Field(ge=5, le=100)]
ModelName = Annotated[str, Field(min_length=1, max_length=200, examples=["anthropic/claude-sonnet-4.5"])]
Criterion = Annotated[
    str,
    Field(min_length=1, max_length=MAX_CRITERION_CHARACTERS, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(not_blank),
]
Criteria = Annotated[list[Criterion], Field(max_length=MAX_CRITERIA)]
NUMBER = "(0|[1-9][0-9]*)"
PRE_RELEASE = "(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
BUILD = "[0-9a-zA-Z-]+"
VERSION = worded(
    rf"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{PRE_RELEASE}(\.{PRE_RELEASE})*)?(\+{BUILD}(\.{BUILD})*)?$",  # from semver.org
    "must be a version of three numbers, such as '1.2.0'",
)
Version = Annotated[str, Field(pattern=VERSION, max_length=64)]
Code = Annotated[str, Field(min_length=1, max_length=200_000)]
DEFAULT_MODEL = "anthropic/claude-sonnet-4.5"

DEPARTMENT_EXAMPLE: JsonObject = {
    "slug": "music-rights",
    "name": "Music Rights",
    "description": "Finds out who owns the music of a film and what its use costs.",
    "color": "#8B5CF6",
    "priority": 4,
}
AGENT_EXAMPLE: JsonObject = {
    "agentId": "subtext-specialist-001",
    "name": "Subtext Specialist",
    "description": "Finds what characters mean but do not say.",
    "department": "story",
    "instructionsPrompt": "You read dialogue for what is left unsaid. Name each line's subtext in one sentence.",
    "skills": ["dialogue", "subtext"],
    "qualityThreshold": 75,
}
CUSTOM_TOOL_EXAMPLE: JsonObject = {
    "toolName": "countScenes",
    "displayName": "Count Scenes",
    "description": "Counts the scene headings of a screenplay.",
    "inputSchema": {"type": "object", "properties": {"script": {"type": "string"}}, "required": ["script"]},
    "executeFunction": "(input) => ({ scenes: (input.script.match(/^(INT|EXT)\\./gm) ?? []).length })",
    "exampleInputs": [{"script": "INT. LIGHTHOUSE - NIGHT"}],
    "isGlobal": True,
}


class CatalogInput(BaseModel):
    """Input for an entry: unknown fields and wrong types are refused (`0` is not `false`), read-only fields are
    ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def ignore_read_only(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic's own signature for raw input
        """Drop read-only fields."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key not in READ_ONLY}
        return values

    def given(self) -> JsonObject:
        """Return the fields that the request contains, by their stored names."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class DepartmentOptions(CatalogInput):
    """The optional fields of a department."""

    icon: Annotated[str, Field(max_length=64)] | None = None
    """The name of an icon for user interfaces; `null` for none."""
    color: Color | None = None
    """A color for user interfaces; `null` for none."""
    priority: Annotated[int, Field(ge=1, le=10)] = 5
    """The place in an orchestration: lower numbers run first, equal ones concurrently."""
    is_active: bool = True
    """Whether new runs may use the department."""
    default_model: ModelName = DEFAULT_MODEL
    """The model of its agents that do not set one."""
    max_agent_steps: Steps = 20
    """The `maxAgentSteps` of its agents that do not set it."""
    quality_criteria: Criteria = []
    """The criteria of the department's work, by which the judge scores every output of the department."""


class DepartmentCreate(DepartmentOptions):
    """A new department; `priority` 1 runs first."""

    model_config = ConfigDict(json_schema_extra={"examples": [DEPARTMENT_EXAMPLE]})

    slug: DepartmentSlug
    """The department's natural key, unique among departments."""
    name: Name
    """The display name."""
    description: Prose
    """The department's field of work."""


class DepartmentUpdate(DepartmentOptions):
    """Changes of a department."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"priority": 2, "color": None}]})

    slug: DepartmentSlug = ""
    """The department's natural key, unique among departments."""
    name: Name = ""
    """The display name."""
    description: Prose = ""
    """The department's field of work."""


class AgentOptions(CatalogInput):
    """The optional fields of an agent."""

    is_department_head: bool = False
    """Whether the agent plans, reviews and reports for its department. A department has at most one head."""
    tool_names: Annotated[list[GrantedTool], Field(max_length=100)] = []
    """The tools that the agent may call: custom tools by name, tools of MCP servers as `mcp:SERVER/TOOL`."""
    approval_tools: Annotated[list[GrantedTool], Field(max_length=100)] = []
    """Those of its tools whose calls a person must approve, in addition to the tools that require it themselves."""
    specialization: Annotated[str, Field(max_length=200)] | None = None
    """The agent's specialty in a few words; `null` for none."""
    skills: Annotated[list[Name], Field(max_length=100)] = []
    """The agent's skills, in order."""
    is_active: bool = True
    """Whether new runs may use the agent."""
    requires_review: bool = True
    """Whether the head reviews every output of the agent, whatever its score."""
    quality_threshold: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 80
    """0 to 100: an output that scores below it is reviewed by the head."""
    quality_criteria: Criteria = []
    """The criteria by which the judge scores the agent's outputs, in addition to those of the department."""
    output_schema: JsonObject | None = None
    """The JSON Schema (draft 2020-12, at most 64 KiB, without references to other documents) that `output.data` of the
    agent's executions has to match; `null` for none. An execution whose data does not match fails with
    `output-invalid`."""


class AgentCreate(AgentOptions):
    """A new agent of a department. A head never requires review; a department has at most one head."""

    model_config = ConfigDict(json_schema_extra={"examples": [AGENT_EXAMPLE]})

    agent_id: AgentId
    """The agent's natural key, unique among agents."""
    name: Name
    """The display name."""
    description: Prose
    """The agent's task, as the head of its department reads it."""
    department: Slug
    """The slug of the agent's department."""
    model: ModelName | None = None
    """The model that the agent calls, by its catalog name. If missing or `null`, it is the `defaultModel` of the
    department."""
    max_agent_steps: Steps | None = None
    """The maximum number of model calls that one execution may make before it must answer. If missing or `null`, it is
    the `maxAgentSteps` of the department."""
    instructions_prompt: Instructions
    """The agent's instructions: the core of its system prompt."""


class AgentUpdate(AgentOptions):
    """Changes of an agent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"isActive": False}]})

    agent_id: AgentId = ""
    """The agent's natural key, unique among agents."""
    name: Name = ""
    """The display name."""
    description: Prose = ""
    """The agent's task, as the head of its department reads it."""
    department: Slug = ""
    """The slug of the agent's department."""
    model: ModelName = ""
    """The model that the agent calls, by its catalog name."""
    max_agent_steps: Steps = 5
    """The maximum number of model calls that one execution may make before it must answer."""
    instructions_prompt: Instructions = ""
    """The agent's instructions: the core of its system prompt."""


class CustomToolOptions(CatalogInput):
    """The optional fields of a custom tool."""

    example_inputs: Annotated[list[JsonObject], Field(max_length=50)] = []
    """Inputs that the tool is tested with whenever it is saved; each must match `inputSchema` and succeed."""
    departments: Annotated[list[Slug], Field(max_length=200)] = []
    """The slugs of the departments whose agents may use the tool."""
    is_global: bool = False
    """Whether agents of every department may use the tool."""
    is_active: bool = True
    """Whether new runs may use the tool."""
    version: Version = "1.0.0"
    """The semantic version of the code. It must increase when the code changes."""
    idempotent: bool = False
    """Whether a repeated call with the same input has no further effect, so that an interrupted call may run
    again."""
    requires_approval: bool = False
    """Whether a person must approve each call before it is made."""


class CustomToolCreate(CustomToolOptions):
    """A new custom tool: a JavaScript function `(input, context) => result` with the JSON Schema of its input."""

    model_config = ConfigDict(json_schema_extra={"examples": [CUSTOM_TOOL_EXAMPLE]})

    tool_name: ToolName
    """The tool's natural key, by which models call it, unique among tools."""
    display_name: Name
    """The display name."""
    description: Prose
    """The tool's purpose, as models read it."""
    input_schema: JsonObject
    """The JSON Schema of the tool's input, an object."""
    execute_function: Code
    """The JavaScript function `(input, context) => result`, which may be `async`."""


class CustomToolUpdate(CustomToolOptions):
    """Changes of a custom tool."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": "1.1.0"}]})

    tool_name: ToolName = ""
    """The tool's natural key, by which models call it, unique among tools."""
    display_name: Name = ""
    """The display name."""
    description: Prose = ""
    """The tool's purpose, as models read it."""
    input_schema: JsonObject = {}
    """The JSON Schema of the tool's input, an object."""
    execute_function: Code = ""
    """The JavaScript function `(input, context) => result`, which may be `async`."""
