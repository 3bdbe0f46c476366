"""The parts of a run's project and episode that agents and judges receive.

The database truncates the configured fields of large documents, which limits the cost of any content.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from bson import Decimal128, ObjectId
from bson.errors import InvalidBSON
from pymongo.errors import OperationFailure

from app.database.connection import Database, Raw
from app.kit.json_values import JsonObject
from app.services.prompts.context import context_text

PROJECTS = "projects"
EPISODES = "episodes"
MAX_DOCUMENT_BYTES = 16 * 1024
"""The size limit of a document's fields as JSON."""
MAX_TEXT_CHARACTERS = 16 * 1024
MAX_LIST_ITEMS = 200
MAX_ITEM_CHARACTERS = 2_000
READ_MILLISECONDS = 2_000
CUT = "…"
SMALL_DOCUMENT_BYTES = 64 * 1024
LARGE: Raw = {}
"""Returned instead of the fields of a document that is not small."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ContextFields:
    """The names of the fields that agents and judges receive."""

    project: tuple[str, ...] = ()
    episode: tuple[str, ...] = ()


@dataclass(frozen=True)
class CmsContext:
    """The context of a run as prompts show it; empty without one."""

    text: str = ""

    @cached_property
    def sha256(self) -> str | None:
        """The hash of the text; `None` if it is empty."""
        return hashlib.sha256(self.text.encode()).hexdigest() if self.text else None


NO_CONTEXT = CmsContext()


async def read_context(
    database: Database, project: ObjectId | None, episode: ObjectId | None, fields: ContextFields
) -> CmsContext:
    """Return the context of a run; a document that does not exist, or cannot be read, adds nothing."""
    return CmsContext(
        context_text(
            await read_fields(database, PROJECTS, project, fields.project),
            await read_fields(database, EPISODES, episode, fields.episode),
        )
    )


async def read_fields(
    database: Database, collection: str, document_id: ObjectId | None, names: tuple[str, ...]
) -> JsonObject:
    """Return the texts, numbers, booleans and lists of them among some fields of a document, within 16 KiB."""
    if document_id is None or not names:
        return {}
    selector = {"_id": {"$in": [document_id, str(document_id)]}}
    try:
        found = await read_small(database, collection, selector, names)
        if found is LARGE:
            found = await read_cut(database, collection, selector, names)
    except (OperationFailure, InvalidBSON) as error:  # such as a text that is not UTF-8
        log.warning("context-unreadable", collection=collection, id=str(document_id), error=type(error).__name__)
        return {}
    return within_limit([(name, plain(found.get(name))) for name in names])


async def read_small(database: Database, collection: str, selector: Raw, names: tuple[str, ...]) -> Raw:
    """Return some fields of a document, none if it does not exist, or `LARGE`.

    The truncating expressions are the slowest part for the server, and most documents are small.
    """
    is_small = {"$lte": [{"$bsonSize": "$$ROOT"}, SMALL_DOCUMENT_BYTES]}
    projection = {"_id": 0, "fields": {"$cond": [is_small, {name: f"${name}" for name in names}, None]}}
    found = await database[collection].find_one(selector, projection, max_time_ms=READ_MILLISECONDS)
    if found is None:
        return {}
    return LARGE if found["fields"] is None else {name: cut(value) for name, value in found["fields"].items()}


async def read_cut(database: Database, collection: str, selector: Raw, names: tuple[str, ...]) -> Raw:
    """Return some fields of a document of any size, which the server cuts as `cut` does."""
    projection = {"_id": 0, **{name: cut_to_size(name) for name in names}}
    return await database[collection].find_one(selector, projection, max_time_ms=READ_MILLISECONDS) or {}


def cut(value: Any) -> Any:  # noqa: ANN401 - any stored value
    """Return a stored text or list, cut, a number or a boolean; `None` for anything else."""
    if isinstance(value, list):
        items: list[Any] = value[:MAX_LIST_ITEMS]
        return [cut_scalar(item, MAX_ITEM_CHARACTERS) for item in items]
    return cut_scalar(value, MAX_TEXT_CHARACTERS)


def cut_scalar(value: Any, most_characters: int) -> Any:  # noqa: ANN401 - any stored value
    """Return a stored text, which is cut, a number or a boolean; `None` for anything else."""
    if type(value) is str:  # a subclass is JavaScript
        return value[:most_characters]
    return value if isinstance(value, bool | int | float | Decimal128) else None


def cut_to_size(name: str) -> Raw:
    """Return the expression for a field: a text or a list is cut, and a value of another kind is left out."""
    item = "$$item"
    items = {"input": {"$slice": [f"${name}", MAX_LIST_ITEMS]}, "as": "item", "in": scalar(item, MAX_ITEM_CHARACTERS)}
    is_list = {"$eq": [{"$type": f"${name}"}, "array"]}
    return {"$cond": [is_list, {"$map": items}, scalar(f"${name}", MAX_TEXT_CHARACTERS)]}


def scalar(value: str, most_characters: int) -> Raw:
    """Return the expression for a text, which is cut, a number or a boolean; anything else is `null`."""
    kind = {"$type": value}
    branches = [
        {"case": {"$eq": [kind, "string"]}, "then": {"$substrCP": [value, 0, most_characters]}},
        {"case": {"$in": [kind, ["int", "long", "double", "decimal", "bool"]]}, "then": value},
    ]
    return {"$switch": {"branches": branches, "default": None}}


def plain(value: Any) -> Any:  # noqa: ANN401 - any stored value
    """Return a value as JSON, or `None` if it is empty."""
    match value:
        case list():
            return [item for item in map(plain, value) if item is not None] or None
        case Decimal128():
            return plain(float(str(value)))
        case float():
            return value if math.isfinite(value) else None
        case str():
            return value if value.strip() else None
        case _:
            return value


def within_limit(fields: list[tuple[str, Any]]) -> JsonObject:
    """Return the fields that fit into 16 KiB of JSON, the first ones first; the last one is cut."""
    kept: JsonObject = {}
    left = MAX_DOCUMENT_BYTES
    for name, value in fields:
        if value is None:
            continue
        left -= size_of(name) + 4
        shown = fitting(value, left)
        if shown is None:
            break
        kept[name] = shown
        left -= size_of(shown)
    return kept


def fitting(value: Any, room: int) -> Any:  # noqa: ANN401 - JSON in and out
    """Return a value that fits into a number of bytes: all of it or its beginning; `None` if nothing fits."""
    if size_of(value) <= room:
        return value
    if isinstance(value, list):
        items: list[Any] = []
        for item in value:
            room -= size_of(item) + 2
            if room < 0:
                break
            items.append(item)
        return items or None
    if not isinstance(value, str) or room < size_of(CUT) * 2:
        return None
    cut = value.encode()[: room - size_of(CUT)].decode("utf-8", "ignore")
    while cut and size_of(cut) + len(CUT.encode()) > room:  # escapes are longer than the characters they stand for
        cut = cut[: len(cut) * 9 // 10]
    return f"{cut}{CUT}" if cut else None


def size_of(value: object) -> int:
    """Return the bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode())
