"""Upserts of seeds by natural keys, as `dynamic-agents seed` runs them.

Only the fields that a seed names change in a stored document. Its id, its statistics, the ids of unchanged rows and
the fields of other programs are kept.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from app.database.audit_marks import BY_SEEDS, Actor
from app.database.connection import Database, Raw
from app.database.transactions import Session
from app.errors import AppError
from app.kit.json_values import JsonObject
from app.models.base import PayloadDocument
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
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
from app.services.catalog.writer import CatalogWriteConflict, CatalogWriter, KeyTaken, catalog_write


class Outcome(StrEnum):
    """The result of a seed's upsert."""

    INSERTED = "inserted"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class StoredUnreadable(CatalogWriteConflict):
    """The document stored under a seed's key is invalid, and the seed does not correct it."""

    code = "stored-unreadable"

    def __init__(self, key: str) -> None:
        super().__init__(f"The document stored under {key!r} cannot be read.")


@dataclass
class SeedReport:
    """The numbers of inserted, changed and unchanged documents, and the refused seeds with their reasons."""

    counts: Counter[tuple[Outcome, type[PayloadDocument]]] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list[str])

    def count(self, outcome: Outcome) -> SeedCount:
        """Return the number of documents of each kind with an outcome."""
        return SeedCount(*(self.counts[outcome, document] for document in (Department, Agent, CustomTool)))


async def upsert_seeds(database: Database, folder: Path = SEEDS, actor: Actor = BY_SEEDS) -> SeedReport:
    """Insert missing documents, and set the fields that seeds name in stored ones.

    Seeds are refused if they would make a second head of a department, change a built-in tool, or change the code or
    schema of a tool without raising its version.

    Raises:
        SeedUnreadable: a file of the folder is invalid; nothing has changed.
    """
    seeds = await read_usable_seeds(database, folder)
    report = SeedReport()
    writer = SeedWriter(database, actor)
    await upsert_all(writer, Department, "slug", seeds.departments, report)
    ids = await department_ids(database)
    agents = [with_department(seed, ids) for seed in seeds.agents]
    # Heads come last, after agents that stop being heads.
    agents.sort(key=lambda seed: seed.get("isDepartmentHead") is True)
    await upsert_all(writer, Agent, "agentId", agents, report)
    await upsert_all(writer, CustomTool, "toolName", [with_departments(seed, ids) for seed in seeds.tools], report)
    return report


async def upsert_all(
    writer: "SeedWriter", document: type[PayloadDocument], key: str, seeds: list[JsonObject], report: SeedReport
) -> None:
    """Upsert seeds of one kind, each in its own transaction, and report the results."""
    for seed in seeds:
        try:
            outcome = await upsert(writer, document, key, seed)
        except AppError as error:
            report.refused.append(f"{seed[key]}: {error.message}")
        else:
            report.counts[outcome, document] += 1


async def upsert(writer: "SeedWriter", document: type[PayloadDocument], key: str, seed: JsonObject) -> Outcome:
    """Insert or change the document of one seed.

    Raises:
        AppError: a rule of the catalog refuses it.
    """
    if await writer.collection(document).find_one({key: seed[key]}, {"_id": 1}) is None:
        with suppress(KeyTaken):  # another process inserted it first
            await writer.insert_seed(document, seed)
            return Outcome.INSERTED
    return await writer.apply_seed(document, key, seed)


@dataclass(frozen=True)
class SeedWriter(CatalogWriter):
    """Writes the documents of seeds, one transaction each."""

    actor: Actor

    @catalog_write
    async def insert_seed(self, session: Session, document: type[PayloadDocument], seed: JsonObject) -> None:
        """Insert the document of a seed.

        Raises:
            AppError: a rule of the catalog refuses it.
        """
        await refuse_broken_rules(self, document, {}, seed, session)
        fields = {name: value for name, value in seed.items() if name not in READ_ONLY}
        await self.insert(document, fields, self.actor, session)

    @catalog_write
    async def apply_seed(
        self, session: Session, document: type[PayloadDocument], key: str, seed: JsonObject
    ) -> Outcome:
        """Set the fields of a stored document that differ from its seed.

        Raises:
            AppError: a rule of the catalog refuses it.
        """
        name: str = seed[key]
        raw = await self.find_current(document, {key: name}, StoredUnreadable(name), None, session)
        changes = changes_of(document, raw, seed, key)
        if changes:
            await refuse_broken_rules(self, document, raw, raw | changes, session)
        await self.change(document, raw, changes, name, self.actor, session)
        return Outcome.CHANGED if changes else Outcome.UNCHANGED


async def refuse_broken_rules(
    writer: CatalogWriter, document: type[PayloadDocument], raw: Raw, merged: Raw, session: Session
) -> None:
    """Apply the rules of the API to a document before it is written.

    Raises:
        AppError: the document breaks a rule.
    """
    if document is Agent:
        await writer.refuse_second_head(merged, raw.get("_id"), None, session)
    if document is CustomTool and raw:
        refuse_builtin(raw)
        require_risen_version({"inputSchema": {}, **raw}, {"inputSchema": {}, **merged})


def changes_of(document: type[PayloadDocument], raw: Raw, seed: JsonObject, key: str) -> JsonObject:
    """Return the fields of a seed that differ from the stored ones, in stored form."""
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
    """Return a field's new value; unchanged rows of an array keep their ids."""
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
