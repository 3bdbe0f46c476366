"""The insertion of seeds, which are the catalog of a new installation. Stored documents are never changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from pymongo.errors import BulkWriteError

from app.database.audit_marks import BY_SEEDS, Actor, add_audit_marks
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session, in_transaction
from app.kit.json_values import JsonObject
from app.models.base import PayloadDocument, Relation
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.services.catalog.loader import first_problem
from app.services.catalog.seeds.files import SEEDS, Seeds, SeedUnreadable, read_seeds
from app.services.catalog.writer import creation_mark

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SeedCount:
    """A number of documents of each kind."""

    departments: int
    agents: int
    custom_tools: int


async def insert_missing_seeds(database: Database, folder: Path = SEEDS) -> SeedCount:
    """Insert the seeds whose natural keys are missing in the database.

    Documents that were edited or deactivated stay unchanged. A second head of a department is not inserted.

    Raises:
        SeedUnreadable: a file of the folder is invalid; nothing was inserted.
    """
    seeds = await read_usable_seeds(database, folder)
    inserted = await insert_missing(database, Department, "slug", seeds.departments)
    ids = await department_ids(database)
    agents = [with_department(one, ids) for one in seeds.agents]
    tools = [with_departments(one, ids) for one in seeds.tools]
    count = SeedCount(
        departments=inserted,
        agents=await insert_missing(database, Agent, "agentId", agents),
        custom_tools=await insert_missing(database, CustomTool, "toolName", tools),
    )
    log.info("seeded", departments=count.departments, agents=count.agents, customTools=count.custom_tools)
    return count


async def read_usable_seeds(database: Database, folder: Path) -> Seeds:
    """Read the seeds of a folder, and check that each makes a valid document.

    Raises:
        SeedUnreadable: a seed is invalid.
    """
    seeds = read_seeds(folder)
    provisional = {seed["slug"]: Relation() for seed in seeds.departments} | await department_ids(database)
    for seed in seeds.departments:
        validated(Department, seed, seed["slug"])
    for seed in seeds.agents:
        validated(Agent, with_department(seed, provisional), seed["agentId"])
    for seed in seeds.tools:
        validated(CustomTool, with_departments(seed, provisional), seed["toolName"])
    return seeds


async def department_ids(database: Database) -> dict[str, Relation]:
    """Read the ids of the stored departments, by slug."""
    found = collection_of(database, Department).find({}, {"slug": 1})
    return {raw["slug"]: raw["_id"] async for raw in found if isinstance(raw.get("slug"), str)}


async def insert_missing(database: Database, document: type[PayloadDocument], key: str, seeds: list[JsonObject]) -> int:
    """Insert the seeds whose key is not stored yet, and return their number."""
    collection = collection_of(database, document)
    present = set(await collection.distinct(key, {key: {"$in": [seed[key] for seed in seeds]}}))
    missing = [validated(document, seed, seed[key]).as_stored() for seed in seeds if seed[key] not in present]
    if not missing:
        return 0
    if await insert_recorded(database, document, missing, BY_SEEDS):
        return len(missing)
    inserted = 0
    for raw in missing:
        if await insert_recorded(database, document, [raw], BY_SEEDS):
            inserted += 1
        else:
            log.warning("seed-not-inserted", collection=collection.name, key=raw[key])
    return inserted


async def insert_recorded(database: Database, document: type[PayloadDocument], raws: list[Raw], actor: Actor) -> bool:
    """Insert documents with their audit marks, all or none; return whether no unique index refused one."""

    async def insert(session: Session) -> None:
        await collection_of(database, document).insert_many(raws, session=session)
        marks = [creation_mark(document, raw, actor) for raw in raws]
        await add_audit_marks(database, marks, session)

    try:
        await in_transaction(database, insert)
    except BulkWriteError:
        return False
    return True


def validated(document: type[PayloadDocument], seed: JsonObject, key: str) -> PayloadDocument:
    """Return the document of a seed."""
    try:
        return document.model_validate(seed)
    except ValidationError as error:
        raise SeedUnreadable(f"The seed {key!r}: {first_problem(error)}.") from None


def with_department(seed: JsonObject, ids: dict[str, Relation]) -> JsonObject:
    """Return an agent's seed with its department as a relation; a head requires no review."""
    related = seed | {"department": relation_of(seed.get("department"), ids, seed["agentId"])}
    return related | {"requiresReview": False} if seed.get("isDepartmentHead") is True else related


def with_departments(seed: JsonObject, ids: dict[str, Relation]) -> JsonObject:
    """Return a tool's seed with its departments, if any, as relations."""
    if "departments" not in seed:
        return seed
    return seed | {"departments": [relation_of(slug, ids, seed["toolName"]) for slug in seed["departments"]]}


def relation_of(slug: Any, ids: dict[str, Relation], seed: str) -> Relation:  # noqa: ANN401 - whatever the file holds
    """Return the id of a department."""
    if not isinstance(slug, str) or slug not in ids:
        raise SeedUnreadable(f"The seed {seed!r} names the department {slug!r}, which does not exist.")
    return ids[slug]
