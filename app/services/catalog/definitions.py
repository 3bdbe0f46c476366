"""What a run works with: agents, departments and tools as they stand when it starts.

Plain immutable values, apart from the documents behind them: a run keeps the ones it started with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from app.kit.check_thread import in_check_thread
from app.kit.json_values import JsonObject, clean_json
from app.models.agent import Agent
from app.models.base import Relation
from app.models.catalog_document import CatalogState
from app.models.custom_tool import CustomTool, ToolSource
from app.models.department import Department
from app.services.tools.mcp.tools import McpTool
from app.services.tools.names import MCP_FUNCTION_PREFIX, MCP_PREFIX, function_name
from app.services.tools.schemas import InputValidator, compile_schema


@dataclass(frozen=True)
class DepartmentDefinition:
    """A department as a run sees it."""

    id: Relation
    slug: str
    name: str
    description: str
    priority: int
    default_model: str
    is_active: bool
    state: CatalogState = CatalogState.ACTIVE
    stored_weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """The quality weights that people have stored, for this department and under `default`."""

    @classmethod
    def of(
        cls, department: Department, stored_weights: Mapping[str, Mapping[str, float]] | None = None
    ) -> "DepartmentDefinition":
        """The definition in a document."""
        assert department.id is not None  # noqa: S101 - read from the database
        return cls(
            id=department.id,
            slug=department.slug,
            name=department.name or department.slug,
            description=department.description,
            priority=department.priority,
            default_model=department.default_model,
            is_active=department.state is CatalogState.ACTIVE,
            state=department.state,
            stored_weights=stored_weights or {},
        )


@dataclass(frozen=True)
class ToolDefinition:
    """A tool as a run sees it: `code` is its JavaScript, where it is a custom one, `input_schema` JSON Schema.

    `idempotent` is its author's word that running it twice with one input does no more than running it once.
    """

    name: str
    description: str
    input_schema: JsonObject
    code: str
    version: str
    is_active: bool
    is_global: bool
    departments: frozenset[Relation]
    idempotent: bool = False
    source: ToolSource = ToolSource.CUSTOM

    @classmethod
    def of(cls, tool: CustomTool) -> "ToolDefinition":
        """The definition in a document."""
        return cls(
            name=tool.tool_name,
            description=tool.description or tool.display_name,
            input_schema=clean_json(tool.input_schema) or {"type": "object"},
            code=tool.execute_function,
            version=tool.version,
            is_active=tool.state is CatalogState.ACTIVE,
            is_global=tool.is_global,
            departments=frozenset(tool.departments),
            idempotent=tool.idempotent,
            source=tool.source,
        )

    @classmethod
    def of_server(cls, tool: McpTool) -> "ToolDefinition":
        """The definition of a tool that an MCP server offers: to whomever it is granted."""
        return cls(
            name=tool.name,
            description=tool.description,
            input_schema=tool.input_schema,
            code="",
            version="",
            is_active=True,
            is_global=True,
            departments=frozenset(),
            idempotent=tool.idempotent,
            source=ToolSource.MCP,
        )

    @property
    def function_name(self) -> str:
        """The name by which models call it."""
        return function_name(self.name)

    async def get_validator(self) -> InputValidator:
        """What checks inputs, compiled once, in a thread.

        Raises:
            InvalidSchema: the stored schema is not one.
        """
        return self._validator if "_validator" in vars(self) else await in_check_thread(lambda: self._validator)

    @cached_property
    def _validator(self) -> InputValidator:
        return compile_schema(self.input_schema)

    @property
    def is_pure(self) -> bool:
        """Whether a call can have no effect outside itself: the sandbox gives `fetch` only to code that names it."""
        return self.source == ToolSource.CUSTOM and "fetch" not in self.code

    @property
    def may_run_again(self) -> bool:
        """Whether a call whose outcome is unknown may simply be made again."""
        return self.is_pure or self.idempotent

    def is_offered_to(self, department: DepartmentDefinition) -> bool:
        """Whether agents of the department may be granted it."""
        return self.is_active and not self.is_disguised and (self.is_global or department.id in self.departments)

    @property
    def is_disguised(self) -> bool:
        """Whether models could take it for a tool of an MCP server, because of a name stored past the API."""
        return self.source != ToolSource.MCP and self.name.startswith((MCP_PREFIX, MCP_FUNCTION_PREFIX))

    def as_model_tool(self) -> JsonObject:
        """The tool in the form in which models are told of it."""
        function = {"name": self.function_name, "description": self.description, "parameters": self.input_schema}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class AgentDefinition:
    """An agent as a run sees it, with the tools that it may really use; `quality_threshold` is 0 to 100."""

    id: Relation
    agent_id: str
    name: str
    description: str
    department: DepartmentDefinition
    is_department_head: bool
    model: str
    instructions: str
    max_steps: int
    specialization: str | None
    skills: tuple[str, ...]
    requires_review: bool
    quality_threshold: float
    tools: tuple[ToolDefinition, ...]
    missing_tools: tuple[str, ...] = ()
    """The granted tools that do not exist, are switched off, or are not offered to its department."""

    @classmethod
    def of(cls, agent: Agent, department: DepartmentDefinition, tools: dict[str, ToolDefinition]) -> "AgentDefinition":
        """The definition in a document; granted are the named tools that are active and offered to its department."""
        assert agent.id is not None  # noqa: S101 - read from the database
        granted = (tools[name] for name in agent.granted_tool_names if name in tools)
        usable = with_own_names(tool for tool in granted if tool.is_offered_to(department))
        usable_names = {tool.name for tool in usable}
        return cls(
            id=agent.id,
            agent_id=agent.agent_id,
            name=agent.name or agent.agent_id,
            description=agent.description,
            department=department,
            is_department_head=agent.is_department_head,
            model=agent.model or department.default_model,
            instructions=agent.instructions_prompt,
            max_steps=min(max(agent.max_agent_steps, 1), 100),
            specialization=agent.specialization,
            skills=tuple(row.skill for row in agent.skills),
            requires_review=agent.requires_review and not agent.is_department_head,
            quality_threshold=agent.quality_threshold,
            tools=usable,
            missing_tools=tuple(name for name in agent.granted_tool_names if name not in usable_names),
        )


def with_own_names(tools: Iterable[ToolDefinition]) -> tuple[ToolDefinition, ...]:
    """The tools, each with a function name of its own: of several with the same one, the first."""
    by_name: dict[str, ToolDefinition] = {}
    for tool in tools:
        by_name.setdefault(tool.function_name, tool)
    return tuple(by_name.values())


@dataclass(frozen=True)
class Team:
    """A department with its head and its specialists, in the order of their ids.

    New runs do not use `inactive_specialists`; runs that were accepted earlier keep using them.
    """

    department: DepartmentDefinition
    head: AgentDefinition
    specialists: tuple[AgentDefinition, ...]
    inactive_specialists: tuple[AgentDefinition, ...] = ()
