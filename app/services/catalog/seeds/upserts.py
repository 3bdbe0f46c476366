"""Bringing the catalogue to what a folder of seeds says, by natural keys: what `dynamic-agents seed` does.

Of a stored document only the fields that its seed names change: its id, its statistics, the ids of the rows that stay
and what others stored in it are kept.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database, Raw
from app.errors import AppError
from app.kit.json_values import JsonObject
from app.models.agent import Agent
from app.models.base import PayloadDocument
from app.models.custom_tool import CustomTool
from app.models.department import Department
from app.services.catalog.input_schemas import READ_ONLY
from app.services.catalog.seeds.files import ROW_FIELDS, SEEDS
from app.services.catalog.seeds.insertion import (
    SeedCount,
    department_ids,
    read_usable_seeds,
    validated,
    with_department,
    with_departments,
)
from app.services.catalog.tool_rules import refuse_builtin, require_risen_version, same_json
from app.services.catalog.writer import CatalogWriteConflict, CatalogWriter, KeyTaken


class Outcome(StrEnum):
    """What became of a seed's document."""

    INSERTED = "inserted"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class StoredUnreadable(CatalogWriteConflict):
    """What is stored under a seed's key cannot be used, and would not be with the seed's fields either."""

    code = "stored-unreadable"

    def __init__(self, key: str) -> None:
        super().__init__(f"What is stored under {key!r} cannot be read.")


@dataclass
class SeedReport:
    """How many documents were inserted, changed or as their seeds say already, and what was refused, and why."""

    counts: Counter[tuple[Outcome, type[PayloadDocument]]] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list[str])

    def count(self, outcome: Outcome) -> SeedCount:
        """How many documents of each kind had an outcome."""
        return SeedCount(*(self.counts[outcome, document] for document in (Department, Agent, CustomTool)))


async def upsert_seeds(database: Database, folder: Path = SEEDS) -> SeedReport:
    """Insert what is missing, and give what is stored the fields that its seed names.

    Refused, and left as they are, are a second head of a department, a built-in tool, and a tool whose code or schema
    changes while its version does not rise.

    Raises:
        SeedUnreadable: a file of the folder cannot be used; nothing is changed then.
    """
    seeds = await read_usable_seeds(database, folder)
    report = SeedReport()
    writer = CatalogWriter(database)
    await upsert_all(writer, Department, "slug", seeds.departments, report)
    ids = await department_ids(database)
    agents = [with_department(one, ids) for one in seeds.agents]
    # Heads last: whoever leads no more has stepped down by then.
    agents.sort(key=lambda seed: seed.get("isDepartmentHead") is True)
    await upsert_all(writer, Agent, "agentId", agents, report)
    await upsert_all(writer, CustomTool, "toolName", [with_departments(one, ids) for one in seeds.tools], report)
    return report


async def upsert_all(
    writer: CatalogWriter, document: type[PayloadDocument], key: str, seeds: list[JsonObject], report: SeedReport
) -> None:
    """Upsert seeds of one kind, each on its own, and note what became of it."""
    for seed in seeds:
        try:
            outcome = await upsert(writer, document, key, seed)
        except AppError as error:
            report.refused.append(f"{seed[key]}: {error.message}")
        else:
            report.counts[outcome, document] += 1


async def upsert(writer: CatalogWriter, document: type[PayloadDocument], key: str, seed: JsonObject) -> Outcome:
    """Upsert one seed in a transaction.

    Raises:
        AppError: a rule of the catalogue refuses it, in words.
    """
    selector = {key: seed[key]}
    outcome = Outcome.UNCHANGED

    async def fields(session: AsyncClientSession) -> JsonObject:
        await refuse_what_breaks_rules(writer, document, {}, seed, session)
        return {name: value for name, value in seed.items() if name not in READ_ONLY}

    async def prepare(session: AsyncClientSession, raw: Raw) -> JsonObject:
        nonlocal outcome
        changes = changes_of(document, raw, seed, key)
        outcome = Outcome.CHANGED if changes else Outcome.UNCHANGED
        if changes:
            await refuse_what_breaks_rules(writer, document, raw, raw | changes, session)
        return changes

    if await writer.collection(document).find_one(selector, {"_id": 1}) is None:
        with suppress(KeyTaken):  # somebody else was faster
            await writer.insert(document, fields, key)
            return Outcome.INSERTED
    await writer.update(document, selector, StoredUnreadable(seed[key]), prepare, None)
    return outcome


async def refuse_what_breaks_rules(
    writer: CatalogWriter, document: type[PayloadDocument], raw: Raw, merged: Raw, session: AsyncClientSession
) -> None:
    """Hold a document that is to be written to the rules that the API holds it to.

    Raises:
        AppError: it breaks one.
    """
    if document is Agent:
        await writer.refuse_second_head(merged, raw.get("_id"), None, session)
    if document is CustomTool and raw:
        refuse_builtin(raw)
        require_risen_version({"inputSchema": {}, **raw}, {"inputSchema": {}, **merged})


def changes_of(document: type[PayloadDocument], raw: Raw, seed: JsonObject, key: str) -> JsonObject:
    """The fields that a seed names and that are stored otherwise, in their stored form."""
    wanted = validated(document, seed, seed[key]).as_stored()
    changes: JsonObject = {}
    for name in seed.keys() & wanted.keys() - READ_ONLY:
        value = with_kept_ids(name, raw.get(name), wanted[name])
        if not same_json(raw.get(name), value):
            changes[name] = value
    if (raw | changes).get("isDepartmentHead") is True and changes.get("requiresReview") is True:
        del changes["requiresReview"]
    return changes


def with_kept_ids(name: str, stored: object, value: Any) -> Any:  # noqa: ANN401 - any stored value
    """A field's new value; in an array, rows that stay are the stored ones."""
    if name not in ROW_FIELDS or not isinstance(stored, list):
        return value
    left = [row for row in cast("list[Any]", stored) if isinstance(row, dict)]
    rows: list[Any] = []
    for new in value:
        kept = next((row for row in left if same_json(row.get(ROW_FIELDS[name]), new[ROW_FIELDS[name]])), None)
        if kept is not None:
            left.remove(kept)
        rows.append(new if kept is None else kept)
    return rows
