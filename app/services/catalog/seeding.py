"""The seeds: the catalogue that a new installation begins with. What is stored already is never touched."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import yaml
from pydantic import ValidationError
from pymongo.errors import BulkWriteError

from app.errors import StartupError
from app.models.agent import Agent
from app.models.base import PayloadDocument, Relation, new_row_id
from app.models.custom_tool import CustomTool
from app.models.database import Database
from app.models.department import Department
from app.models.json_values import JsonObject

SEEDS = Path(__file__).parents[3] / "seeds"
YAML_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # in C, ten times as fast

log = structlog.get_logger(__name__)


class SeedUnreadable(StartupError):
    """A seed file is missing, unreadable or lacks a field; the message names it."""


@dataclass(frozen=True)
class SeedCount:
    """How many documents of each kind were inserted."""

    departments: int
    agents: int
    custom_tools: int


async def insert_missing_seeds(database: Database, folder: Path = SEEDS) -> SeedCount:
    """Insert what the folder has and the database has not, by natural key.

    A document that somebody edited, renamed or switched off is left as it is, and so is a second head that the
    database refuses.

    Raises:
        SeedUnreadable: a file of the folder cannot be used; nothing is inserted then.
    """
    departments = list(read_departments(folder))
    agents = list(read_agents(folder))
    tools = list(read_tools(folder))
    provisional = {seed["slug"]: Relation() for seed in departments} | await department_ids(database)
    for seed in departments:
        validated(Department, seed, seed["slug"])
    for seed in agents:
        validated(Agent, with_department(seed, provisional), seed["agentId"])
    for seed in tools:
        validated(CustomTool, with_departments(seed, provisional), seed["toolName"])
    inserted = await insert_missing(database, Department, "slug", departments)
    ids = await department_ids(database)
    return SeedCount(
        departments=inserted,
        agents=await insert_missing(database, Agent, "agentId", [with_department(one, ids) for one in agents]),
        custom_tools=await insert_missing(
            database, CustomTool, "toolName", [with_departments(one, ids) for one in tools]
        ),
    )


async def department_ids(database: Database) -> dict[str, Relation]:
    """The ids of the departments that are stored, by slug."""
    found = database[Department.get_collection_name()].find({}, {"slug": 1})
    return {raw["slug"]: raw["_id"] async for raw in found if isinstance(raw.get("slug"), str)}


async def insert_missing(database: Database, document: type[PayloadDocument], key: str, seeds: list[JsonObject]) -> int:
    """Insert the seeds whose key is not stored yet, and count them."""
    collection = database[document.get_collection_name()]
    present = set(await collection.distinct(key, {key: {"$in": [seed[key] for seed in seeds]}}))
    missing = [validated(document, seed, seed[key]).as_stored() for seed in seeds if seed[key] not in present]
    if not missing:
        return 0
    try:
        await collection.insert_many(missing, ordered=False)
    except BulkWriteError as error:
        refused: list[JsonObject] = error.details.get("writeErrors", [])
        for one in refused:
            log.warning("seed-not-inserted", collection=collection.name, key=one.get("op", {}).get(key))
        return len(missing) - len(refused)
    return len(missing)


def validated(document: type[PayloadDocument], seed: JsonObject, key: str) -> PayloadDocument:
    """The document of a seed."""
    try:
        return document.model_validate(seed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SeedUnreadable(f"The seed {key!r}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def read_departments(folder: Path) -> Iterator[JsonObject]:
    """The rows of `departments.yaml`."""
    path = folder / "departments.yaml"
    for row in list_in(mapping_of(parse_yaml(read_text(path), path), path), "departments", path):
        yield required(row, "slug", path)


def read_agents(folder: Path) -> Iterator[JsonObject]:
    """The agents of `agents/<department>/<agentId>.md`: front matter, then the instructions as prose."""
    for path in sorted(folder.glob("agents/*/*.md")):
        parts = read_text(path).split("---\n", 2)
        if len(parts) != 3:
            raise SeedUnreadable(f"{path} must begin with front matter between two lines of '---'.")
        row = dict(required(mapping_of(parse_yaml(parts[1], path), path), "agentId", path))
        row["instructionsPrompt"] = parts[2].strip()
        row["toolNames"] = [{"toolName": name, "id": new_row_id()} for name in list_in(row, "toolNames", path)]
        row["skills"] = [{"skill": skill, "id": new_row_id()} for skill in list_in(row, "skills", path)]
        yield row


def read_tools(folder: Path) -> Iterator[JsonObject]:
    """The tools of `custom-tools/<toolName>/`: `tool.yaml` and `execute.js`."""
    for path in sorted(folder.glob("custom-tools/*/tool.yaml")):
        row = dict(required(mapping_of(parse_yaml(read_text(path), path), path), "toolName", path))
        row["executeFunction"] = read_text(path.with_name("execute.js")).strip()
        row["exampleInputs"] = [{"example": one, "id": new_row_id()} for one in list_in(row, "exampleInputs", path)]
        row["departments"] = list_in(row, "departments", path)
        yield row


def with_department(seed: JsonObject, ids: dict[str, Relation]) -> JsonObject:
    """An agent's seed with its department as a relation."""
    return seed | {"department": relation_of(seed.get("department"), ids, seed["agentId"])}


def with_departments(seed: JsonObject, ids: dict[str, Relation]) -> JsonObject:
    """A tool's seed with its departments as relations."""
    return seed | {"departments": [relation_of(slug, ids, seed["toolName"]) for slug in seed["departments"]]}


def relation_of(slug: Any, ids: dict[str, Relation], seed: str) -> Relation:  # noqa: ANN401 - whatever the file holds
    """The id of a department."""
    if not isinstance(slug, str) or slug not in ids:
        raise SeedUnreadable(f"The seed {seed!r} names the department {slug!r}, which does not exist.")
    return ids[slug]


def read_text(path: Path) -> str:
    """A seed file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeedUnreadable(f"The seed file {path} cannot be read ({type(error).__name__}).") from None


def parse_yaml(text: str, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """A seed file's YAML."""
    try:
        return yaml.load(text, YAML_LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError:
        raise SeedUnreadable(f"The seed file {path} is not valid YAML.") from None


def mapping_of(value: Any, path: Path) -> JsonObject:  # noqa: ANN401 - whatever the file holds
    """The value, if it is a mapping."""
    if not isinstance(value, dict):
        raise SeedUnreadable(f"The seed file {path} must hold a mapping.")
    return value


def list_in(row: JsonObject, key: str, path: Path) -> list[Any]:
    """An optional list of a mapping."""
    value = row.get(key) or []
    if not isinstance(value, list):
        raise SeedUnreadable(f"The seed file {path}: {key} must be a list.")
    return value


def required(row: Any, key: str, path: Path) -> JsonObject:  # noqa: ANN401 - whatever the file holds
    """A row, if it is a mapping that has its natural key."""
    mapping = mapping_of(row, path)
    if not isinstance(mapping.get(key), str):
        raise SeedUnreadable(f"The seed file {path} has an entry without {key}.")
    return mapping
