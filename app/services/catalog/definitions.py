"""Definitions of agents, departments and tools for runs.

Definitions are immutable copies of documents: a run keeps the ones that it started with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.kit.canonical_json import canonical_digest
from app.kit.check_thread import in_check_thread
from app.kit.json_values import JsonObject, clean_json, compact_json
from app.models.base import MAX_CRITERIA, MAX_CRITERION_CHARACTERS, CriterionRow, Relation
from app.models.catalog.agent import Agent
from app.models.catalog.catalog_document import CatalogState
from app.models.catalog.custom_tool import CustomTool, ToolSource
from app.models.catalog.department import Department
from app.services.tools.mcp.tools import McpTool
from app.services.tools.names import MCP_FUNCTION_PREFIX, MCP_PREFIX, function_name
from app.services.tools.schemas import InputValidator, compile_schema

MAX_DESCRIPTION_CHARACTERS = 1_000
"""OpenAI rejects tool descriptions of more than 1,024 characters."""


@dataclass(frozen=True)
class DepartmentDefinition:
    """A department, for runs."""

    id: Relation
    slug: str
    name: str
    description: str
    priority: int
    default_model: str
    max_agent_steps: int
    is_active: bool
    state: CatalogState = CatalogState.ACTIVE
    quality_criteria: tuple[str, ...] = ()
    """The criteria of the department's work, for its judge."""
    stored_weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """The stored quality weights: those of this department, and the default ones under `default`."""

    @classmethod
    def of(
        cls, department: Department, stored_weights: Mapping[str, Mapping[str, float]] | None = None
    ) -> "DepartmentDefinition":
        """Create the definition from a document."""
        assert department.id is not None  # noqa: S101 - read from the database
        return cls(
            id=department.id,
            slug=department.slug,
            name=department.name or department.slug,
            description=department.description,
            priority=department.priority,
            default_model=department.default_model,
            max_agent_steps=department.max_agent_steps,
            is_active=department.state is CatalogState.ACTIVE,
            state=department.state,
            quality_criteria=criteria_in(department.quality_criteria),
            stored_weights=stored_weights or {},
        )


@dataclass(frozen=True)
class ToolDefinition:
    """A tool, for runs: `code` is the JavaScript of a custom tool, `input_schema` is JSON Schema.

    `idempotent` is its author's promise that a repeated call with the same input has no further effect.
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
    requires_approval: bool = False
    """Whether a person must approve each call."""
    examples: tuple[JsonObject, ...] = ()
    """Inputs that show models how to call it."""

    @classmethod
    def of(cls, tool: CustomTool) -> "ToolDefinition":
        """Create the definition from a document."""
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
            requires_approval=tool.requires_approval,
            examples=tuple(clean_json(row.example) for row in tool.example_inputs if isinstance(row.example, dict)),
        )

    @classmethod
    def of_server(cls, tool: McpTool) -> "ToolDefinition":
        """Create the definition of an MCP server's tool, which any department may use."""
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
        """The name that models call the tool by."""
        return function_name(self.name)

    async def get_validator(self) -> InputValidator:
        """Return the validator of inputs, which is compiled once, in a thread.

        Raises:
            InvalidSchema: the stored schema is invalid.
        """
        return self._validator if "_validator" in vars(self) else await in_check_thread(lambda: self._validator)

    @cached_property
    def _validator(self) -> InputValidator:
        return compile_schema(self.input_schema)

    @property
    def digest(self) -> str:
        """A digest of everything that decides what a call does, and of the tool's description."""
        shown = [self.source.value, self.version, self.description, self.input_schema, self.code]
        return canonical_digest(clean_json(shown))

    @property
    def is_pure(self) -> bool:
        """Whether calls have no side effects: the sandbox provides `fetch` only to code that names it."""
        return self.source == ToolSource.CUSTOM and "fetch" not in self.code

    @property
    def may_run_again(self) -> bool:
        """Whether a call with an unknown outcome may run again."""
        return self.is_pure or self.idempotent

    def is_offered_to(self, department: DepartmentDefinition) -> bool:
        """Return whether agents of a department may use the tool."""
        return self.is_active and not self.is_disguised and (self.is_global or department.id in self.departments)

    @property
    def is_disguised(self) -> bool:
        """Whether its name, which was not stored through the API, looks like that of an MCP server's tool."""
        return self.source != ToolSource.MCP and self.name.startswith((MCP_PREFIX, MCP_FUNCTION_PREFIX))

    def as_model_tool(self) -> JsonObject:
        """Return the tool in the form that models receive."""
        description = described(self.description, self.examples)
        function = {"name": self.function_name, "description": description, "parameters": self.input_schema}
        return {"type": "function", "function": function}


def described(description: str, examples: Iterable[JsonObject]) -> str:
    """Return a tool's description with as many of its example inputs as models' limits leave room for."""
    text = description
    for number, example in enumerate(examples):
        line = compact_json(example)
        shown = f"{text}\n{line}" if number else f"{text}\nExample inputs:\n{line}"
        if len(shown) > MAX_DESCRIPTION_CHARACTERS:
            break
        text = shown
    return text


def criteria_in(rows: Iterable[CriterionRow]) -> tuple[str, ...]:
    """Return the criteria in stored rows, at most 20; blank ones are left out."""
    texts = [row.criterion[:MAX_CRITERION_CHARACTERS] for row in rows if row.criterion.strip()]
    return tuple(texts[:MAX_CRITERIA])


@dataclass(frozen=True)
class AgentDefinition:
    """An agent, for runs, with the tools that it may use; `quality_threshold` is 0 to 100."""

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
    quality_criteria: tuple[str, ...] = ()
    """The criteria of the agent's work, for its judge."""
    output_schema: Any = None
    """The JSON Schema of its data; a stored value that is not a schema fails its runs."""
    missing_tools: tuple[str, ...] = ()
    """The granted tools that do not exist, are inactive, or are not offered to its department."""
    approval_tools: frozenset[str] = frozenset()
    """The tools whose calls a person must approve, in addition to those that require it themselves."""

    @classmethod
    def of(cls, agent: Agent, department: DepartmentDefinition, tools: dict[str, ToolDefinition]) -> "AgentDefinition":
        """Create the definition from a document, with the named tools that are active and offered to its department."""
        assert agent.id is not None  # noqa: S101 - read from the database
        granted = (tools[name] for name in agent.granted_tool_names if name in tools)
        usable = with_unique_names(tool for tool in granted if tool.is_offered_to(department))
        usable_names = {tool.name for tool in usable}
        steps = department.max_agent_steps if agent.max_agent_steps is None else agent.max_agent_steps
        return cls(
            id=agent.id,
            agent_id=agent.agent_id,
            name=agent.name or agent.agent_id,
            description=agent.description,
            department=department,
            is_department_head=agent.is_department_head,
            model=agent.model or department.default_model,
            instructions=agent.instructions_prompt,
            max_steps=min(max(steps, 1), 100),
            specialization=agent.specialization,
            skills=tuple(row.skill for row in agent.skills),
            requires_review=agent.requires_review and not agent.is_department_head,
            quality_threshold=agent.quality_threshold,
            tools=usable,
            quality_criteria=criteria_in(agent.quality_criteria),
            output_schema=agent.output_schema,
            missing_tools=tuple(name for name in agent.granted_tool_names if name not in usable_names),
            approval_tools=frozenset(agent.approved_tool_names),
        )


def with_unique_names(tools: Iterable[ToolDefinition]) -> tuple[ToolDefinition, ...]:
    """Return the first tool with each function name."""
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
