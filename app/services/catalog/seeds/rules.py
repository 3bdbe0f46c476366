"""Checks of seeds by the rules of the API, which report every problem with its file and line.

Like an update through the API, a seed may contain only some of the fields; the same rules apply to them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from app.database.collections import collection_of
from app.database.connection import Database
from app.errors import AppError
from app.kit.json_limits import JsonObject
from app.kit.validation_words import message_of
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.services.catalog.input_schemas import AgentUpdate, CustomToolUpdate, DepartmentUpdate
from app.services.catalog.seeds.files import YAML_LOADER, SeedUnreadable, read_text
from app.services.catalog.tool_checker import ToolChecker
from app.services.catalog.tool_rules import same_json
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.names import MCP_PREFIX

FRONT_MATTER = "---\n"


@dataclass(frozen=True)
class LocatedSeed:
    """A seed with the line of each of its fields; `line` is the first line of the seed."""

    key: str
    row: JsonObject
    path: Path
    line: int
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    def problem(self, field_path: str, message: str) -> str:
        """Describe a problem with a field and its place."""
        line = self.lines.get(field_path.partition(".")[0], self.line)
        return f"{self.path}:{line}: {field_path}: {message}" if field_path else f"{self.path}:{line}: {message}"


@dataclass(frozen=True)
class SeedRules:
    """The rules for seeds beyond the validity of single fields."""

    known_models: KnownModels
    tools: ToolChecker

    async def problems(self, database: Database, folder: Path) -> list[str]:
        """Return every problem of the seeds in a folder, in the order of the files.

        Raises:
            SeedUnreadable: a file does not contain seeds.
        """
        departments, agents, tools = (list(read(folder)) for read in (departments_in, agents_in, tools_in))
        stored_slugs = set(await collection_of(database, Department).distinct("slug"))
        slugs = stored_slugs | {one.key for one in departments}
        offers = await offers_of(database, tools)
        found = [*form_problems(departments, "slug", DepartmentUpdate), *self._model_problems(departments)]
        found += [*form_problems(agents, "agentId", AgentUpdate), *self._model_problems(agents)]
        found += head_problems(agents)
        for agent in agents:
            found += relation_problems(agent, slugs, offers)
        found += form_problems(tools, "toolName", CustomToolUpdate)
        for tool in tools:
            found += [
                tool.problem("departments", f"there is no department {slug!r}")
                for slug in listed(tool.row, "departments")
                if slug not in slugs
            ]
            found += await self._tool_problems(database, tool)
        return found

    def _model_problems(self, seeds: list[LocatedSeed]) -> Iterator[str]:
        for seed in seeds:
            for name in ("model", "defaultModel"):
                model = seed.row.get(name)
                if isinstance(model, str) and model not in self.known_models:
                    yield seed.problem(name, f"{model!r} is not one of the allowed models")

    async def _tool_problems(self, database: Database, tool: LocatedSeed) -> list[str]:
        """Return the problems that the sandbox finds in a tool; an unchanged stored tool is not checked again."""
        code, schema = tool.row.get("executeFunction"), tool.row.get("inputSchema", {})
        examples = listed(tool.row, "exampleInputs")
        if not isinstance(code, str) or not isinstance(schema, dict):
            return []  # already reported
        stored = await collection_of(database, CustomTool).find_one({"toolName": tool.key}) or {}
        rows = stored.get("exampleInputs")
        before = [row.get("example") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if same_json([stored.get("executeFunction"), stored.get("inputSchema"), before], [code, schema, examples]):
            return []
        try:
            await self.tools.check(code, schema, examples)
        except AppError as error:
            problems = error.errors
            return [code_problem(tool, one.path, one.message) for one in problems] or [tool.problem("", error.message)]
        return []


def code_problem(tool: LocatedSeed, path: str, message: str) -> str:
    """Describe a problem of a tool, whose code is in a separate file."""
    if path == "executeFunction":
        return f"{tool.path.with_name('execute.js')}:1: {path}: {message}"
    return tool.problem(path, message)


def form_problems(seeds: list[LocatedSeed], key: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the invalid fields of seeds of one kind, and their duplicate keys."""
    first: dict[str, LocatedSeed] = {}
    for seed in seeds:
        try:
            model.model_validate(seed.row)
        except ValidationError as error:
            for one in error.errors(include_url=False, include_input=False):
                path = ".".join(map(str, one["loc"]))
                yield seed.problem(path, message_of(one))
        other = first.setdefault(seed.key, seed)
        if other is not seed:
            yield seed.problem(key, f"{seed.key!r} is taken by {other.path}:{other.line}")


def head_problems(agents: list[LocatedSeed]) -> Iterator[str]:
    """Yield the second heads of departments."""
    heads: dict[object, LocatedSeed] = {}
    for agent in agents:
        if agent.row.get("isDepartmentHead") is True and isinstance(department := agent.row.get("department"), str):
            other = heads.setdefault(department, agent)
            if other is not agent:
                yield agent.problem("isDepartmentHead", f"{department!r} already has the head {other.key!r}")


def relation_problems(
    agent: LocatedSeed, slugs: set[str], offers: Mapping[str, frozenset[str] | None]
) -> Iterator[str]:
    """Yield an unknown department, and tools that the agent could not use."""
    department = agent.row.get("department")
    if not isinstance(department, str) or department not in slugs:
        yield agent.problem("department", f"there is no department {department!r}")
    for place, name in enumerate(listed(agent.row, "toolNames")):
        if not isinstance(name, str) or name.startswith(MCP_PREFIX):
            continue
        offered = offers.get(name, frozenset())
        if name not in offers:
            yield agent.problem(f"toolNames.{place}", f"there is no tool {name!r}")
        elif offered is not None and department not in offered:
            yield agent.problem(f"toolNames.{place}", f"{name!r} is not offered to the department {department!r}")
    granted = listed(agent.row, "toolNames")
    for place, name in enumerate(listed(agent.row, "approvalTools")):
        if name not in granted:
            yield agent.problem(f"approvalTools.{place}", f"{name!r} is not one of its toolNames")


async def offers_of(database: Database, seeds: list[LocatedSeed]) -> dict[str, frozenset[str] | None]:
    """Return the future tools by name, each with the departments that may use it; `None` means all."""
    raws = collection_of(database, Department).find({}, {"slug": 1})
    slugs = {raw["_id"]: str(raw.get("slug")) async for raw in raws}
    offers: dict[str, frozenset[str] | None] = {}
    async for raw in collection_of(database, CustomTool).find({}, ["toolName", "isGlobal", "departments"]):
        names = frozenset(slugs.get(one, "") for one in listed(raw, "departments"))
        offers[str(raw.get("toolName"))] = None if raw.get("isGlobal") is True else names
    for seed in seeds:
        is_global = seed.row.get("isGlobal", offers.get(seed.key, frozenset()) is None)
        if is_global is True:
            offers[seed.key] = None
        elif "departments" in seed.row or seed.key not in offers or offers[seed.key] is None:
            offers[seed.key] = frozenset(one for one in listed(seed.row, "departments") if isinstance(one, str))
    return offers


def departments_in(folder: Path) -> Iterator[LocatedSeed]:
    """Read the seeds of `departments.yaml`."""
    path = folder / "departments.yaml"
    for name, rows in fields_of(compose(read_text(path), path, 0)):
        if name.value == "departments" and isinstance(rows, yaml.SequenceNode):
            yield from (located(row, "slug", path, 1) for row in rows.value)


def agents_in(folder: Path) -> Iterator[LocatedSeed]:
    """Read the seeds of `agents/<department>/<agentId>.md`."""
    for path in sorted(folder.glob("agents/*/*.md")):
        parts = read_text(path).split(FRONT_MATTER, 2)
        if len(parts) != 3:
            raise SeedUnreadable(f"{path} must begin with front matter between two lines of '---'.")
        offset = parts[0].count("\n") + 2
        seed = located(compose(parts[1], path, offset - 1), "agentId", path, offset)
        body = offset + parts[1].count("\n") + 1
        yield with_field(seed, "instructionsPrompt", parts[2].strip(), body)


def tools_in(folder: Path) -> Iterator[LocatedSeed]:
    """Read the seeds of `custom-tools/<toolName>/`."""
    for path in sorted(folder.glob("custom-tools/*/tool.yaml")):
        seed = located(compose(read_text(path), path, 0), "toolName", path, 1)
        yield with_field(seed, "executeFunction", read_text(path.with_name("execute.js")).strip(), seed.line)


def with_field(seed: LocatedSeed, name: str, value: str, line: int) -> LocatedSeed:
    """Return a seed with one more field."""
    return LocatedSeed(seed.key, {**seed.row, name: value}, seed.path, seed.line, {**seed.lines, name: line})


def located(node: yaml.Node, key: str, path: Path, first_line: int) -> LocatedSeed:
    """Return the seed in a YAML mapping.

    Raises:
        SeedUnreadable: the value is not a mapping, or lacks its key.
    """
    loader = YAML_LOADER("")
    try:
        row: Any = loader.construct_document(node)
    except yaml.YAMLError:
        raise SeedUnreadable(f"The seed file {path} is not valid YAML.") from None
    line = node.start_mark.line + first_line
    if not isinstance(row, dict) or not isinstance(row.get(key), str):
        raise SeedUnreadable(f"The seed file {path} has an entry without {key} in line {line}.")
    lines = {str(name.value): name.start_mark.line + first_line for name, _ in fields_of(node)}
    return LocatedSeed(row[key], {str(name): value for name, value in row.items()}, path, line, lines)


def compose(text: str, path: Path, lines_before: int) -> yaml.Node:
    """Parse the nodes of a YAML text.

    Raises:
        SeedUnreadable: the text is not valid YAML; the message names the line.
    """
    try:
        node = yaml.compose(text, YAML_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1 + lines_before}" if mark else ""
        raise SeedUnreadable(f"The seed file {path} is not valid YAML{where}.") from None
    if not isinstance(node, yaml.MappingNode):
        raise SeedUnreadable(f"The seed file {path} must contain a mapping.")
    return node


def fields_of(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping."""
    return node.value if isinstance(node, yaml.MappingNode) else []


def listed(row: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list of a row; any other value counts as an empty list."""
    value = row.get(name)
    return value if isinstance(value, list) else []
