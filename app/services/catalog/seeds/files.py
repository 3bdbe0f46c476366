"""Seed files: one kind of file per kind of entry, in Payload's form except for relations."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from app.errors import StartupError
from app.kit.files import why_unreadable
from app.kit.json_values import JsonObject
from app.models.base import new_row_id
from app.models.catalog.quality_weights import DEFAULT_SLUG

PACKAGE = Path(str(files("app")))
INSTALLED_SEEDS = PACKAGE / "seeds"
SEEDS = INSTALLED_SEEDS if INSTALLED_SEEDS.is_dir() else PACKAGE.parent / "seeds"
"""The folder of the service's seeds: in the installed package, or beside `app/` in a checkout."""
YAML_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # written in C, ten times as fast
ROW_FIELDS = {
    "toolNames": "toolName",
    "approvalTools": "toolName",
    "skills": "skill",
    "exampleInputs": "example",
    "qualityCriteria": "criterion",
}
"""The arrays of the catalog, and the field that each of their rows has besides its id."""


class SeedUnreadable(StartupError):
    """A seed file is missing, unreadable or lacks a field; the message names it."""


@dataclass(frozen=True)
class Seeds:
    """The entries of a folder, with the fields that their files contain and departments as slugs."""

    departments: list[JsonObject]
    agents: list[JsonObject]
    tools: list[JsonObject]


def read_seeds(folder: Path) -> Seeds:
    """Read the seeds of a folder.

    Raises:
        SeedUnreadable: a file is invalid.
    """
    return Seeds(list(read_departments(folder)), list(read_agents(folder)), list(read_tools(folder)))


def read_departments(folder: Path) -> Iterator[JsonObject]:
    """Read the departments of `departments.yaml`."""
    path = folder / "departments.yaml"
    for row in list_in(mapping_of(parse_yaml(read_text(path), path), path), "departments", path):
        department = required(row, "slug", path)
        if department["slug"] == DEFAULT_SLUG:
            raise SeedUnreadable(f"The seed file {path}: no department has the slug {DEFAULT_SLUG!r}.")
        yield with_rows(department, "qualityCriteria", path)


def read_agents(folder: Path) -> Iterator[JsonObject]:
    """Read the agents of `agents/<department>/<agentId>.md`: front matter, then the instructions as prose."""
    for path in sorted(folder.glob("agents/*/*.md")):
        parts = read_text(path).split("---\n", 2)
        if len(parts) != 3:
            raise SeedUnreadable(f"{path} must begin with front matter between two lines of '---'.")
        row = dict(required(mapping_of(parse_yaml(parts[1], path), path), "agentId", path))
        row["instructionsPrompt"] = parts[2].strip()
        for name in ("toolNames", "approvalTools", "skills", "qualityCriteria"):
            row = with_rows(row, name, path)
        yield row


def read_tools(folder: Path) -> Iterator[JsonObject]:
    """Read the tools of `custom-tools/<toolName>/`: `tool.yaml` and `execute.js`."""
    for path in sorted(folder.glob("custom-tools/*/tool.yaml")):
        row = dict(required(mapping_of(parse_yaml(read_text(path), path), path), "toolName", path))
        row["executeFunction"] = read_text(path.with_name("execute.js")).strip()
        if "departments" in row:
            row["departments"] = list_in(row, "departments", path)
        yield with_rows(row, "exampleInputs", path)


def read_text(path: Path) -> str:
    """Read the text of a seed file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeedUnreadable(f"The seed file {path} cannot be read ({why_unreadable(error)}).") from None


def parse_yaml(text: str, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Parse the YAML of a seed file."""
    try:
        return yaml.load(text, YAML_LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError:
        raise SeedUnreadable(f"The seed file {path} is not valid YAML.") from None


def mapping_of(value: Any, path: Path) -> JsonObject:  # noqa: ANN401 - whatever the file holds
    """Return a value that must be a mapping."""
    if not isinstance(value, dict):
        raise SeedUnreadable(f"The seed file {path} must contain a mapping.")
    return value


def list_in(row: JsonObject, key: str, path: Path) -> list[Any]:
    """Return an optional list of a mapping."""
    value = row.get(key) or []
    if not isinstance(value, list):
        raise SeedUnreadable(f"The seed file {path}: {key} must be a list.")
    return value


def required(row: Any, key: str, path: Path) -> JsonObject:  # noqa: ANN401 - whatever the file holds
    """Return a row that must be a mapping with its natural key."""
    mapping = mapping_of(row, path)
    if not isinstance(mapping.get(key), str):
        raise SeedUnreadable(f"The seed file {path} has an entry without {key}.")
    return mapping


def with_rows(row: JsonObject, key: str, path: Path) -> JsonObject:
    """Return an entry with its list, if any, as rows of a Payload array."""
    if key not in row:
        return row
    return row | {key: [{ROW_FIELDS[key]: value, "id": new_row_id()} for value in list_in(row, key, path)]}
