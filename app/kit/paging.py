"""Pages of lists, ordered by a field and `_id`. A page continues after the last row seen, so insertions are safe."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, Protocol, TypeVar

from bson import ObjectId
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection

from app.errors import InvalidInput
from app.kit.json_values import JsonObject, clean_text

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
LIST_MILLISECONDS = 5000
NameSort = Literal["name", "-name"]
"""The sorts of a list in memory."""
UNIQUE_FIELDS = frozenset({"slug", "agentId", "toolName", "_id"})
MAX_INT64 = 2**63 - 1


class Named(Protocol):
    """An item of a list in memory."""

    name: str


NamedType = TypeVar("NamedType", bound=Named)


@dataclass(frozen=True)
class PageRequest:
    """A request for a page; `sort` is a field, with a leading minus for descending order."""

    limit: int
    sort: str
    cursor: str | None

    @property
    def field(self) -> str:
        """The field that orders the list."""
        return self.sort.removeprefix("-")

    @property
    def direction(self) -> int:
        """1 for ascending, -1 for descending."""
        return -1 if self.sort.startswith("-") else 1

    @property
    def order(self) -> list[tuple[str, int]]:
        """The order in MongoDB's form; `_id` breaks ties unless the field is unique."""
        if self.field in UNIQUE_FIELDS:
            return [(self.field, self.direction)]
        return [(self.field, self.direction), ("_id", self.direction)]

    def selector(self) -> JsonObject:
        """Return the condition that skips earlier pages.

        Raises:
            InvalidInput: the cursor does not belong to this list.
        """
        if self.cursor is None:
            return {}
        value, last_id = self._decode(self.cursor)
        beyond = "$lt" if self.direction < 0 else "$gt"
        same = {self.field: value, "_id": {beyond: last_id}}
        further: list[JsonObject] = [{self.field: {beyond: value}}]
        if value is None:
            # Unset values sort first: all others follow in ascending order, none in descending order.
            further = [{self.field: {"$ne": None}}] if self.direction > 0 else []
        elif self.direction < 0:
            further.append({self.field: None})
        return {"$or": [same, *further]}

    def cursor_after(self, row: JsonObject) -> str:
        """Return the cursor that continues after a row."""
        content = {"s": self.sort, "v": row.get(self.field), "i": row["_id"]}
        return base64.urlsafe_b64encode(dumps(content, json_options=CANONICAL_JSON_OPTIONS).encode()).decode()

    def _decode(self, cursor: str) -> tuple[Any, ObjectId | int]:
        try:
            content = loads(base64.urlsafe_b64decode(cursor.encode()).decode(), json_options=CANONICAL_JSON_OPTIONS)
            value, last_id = content["v"], content["i"]
            fits = content["s"] == self.sort and isinstance(last_id, ObjectId | int)
        except FORGERIES:
            raise forged_cursor() from None
        if not fits or not is_sortable(value) or (isinstance(last_id, int) and not is_sortable(last_id)):
            raise forged_cursor()
        return value, last_id


FORGERIES = (
    binascii.Error,
    BSONError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The errors of decoding a forged cursor; each form of extended JSON raises different ones."""


def is_sortable(value: object) -> bool:
    """Return whether MongoDB can order a list by a value."""
    if isinstance(value, str):
        return clean_text(value) == value
    if isinstance(value, int):
        return abs(value) <= MAX_INT64
    return isinstance(value, float | datetime | None)


def forged_cursor() -> InvalidInput:
    """Return the error for a forged cursor."""
    return InvalidInput.of_field("cursor", "is invalid: use the nextCursor of a previous page with the same sort")


@dataclass(frozen=True)
class RawPage:
    """The raw documents of a page, the number of all matches, and the cursor of the next page."""

    raws: list[JsonObject]
    total: int
    next_cursor: str | None


async def read_page(
    collection: AsyncCollection[JsonObject],
    selector: JsonObject,
    page: PageRequest,
    fields: JsonObject | None = None,
    max_total: int | None = None,
) -> RawPage:
    """Read a page of the documents that match a selector; they are counted up to `max_total`.

    Raises:
        InvalidInput: the cursor does not belong to this list.
    """
    conditions = [part for part in (selector, page.selector()) if part]
    found = collection.find({"$and": conditions} if conditions else {}, fields, max_time_ms=LIST_MILLISECONDS)
    raws = await found.sort(page.order).limit(page.limit + 1).to_list()
    shown = raws[: page.limit]
    next_cursor = page.cursor_after(shown[-1]) if len(raws) > page.limit else None
    return RawPage(shown, await count(collection, selector, page, max_total), next_cursor)


async def count(
    collection: AsyncCollection[JsonObject], selector: JsonObject, page: PageRequest, max_total: int | None = None
) -> int:
    """Count the matching documents, up to `max_total`; a search by patterns uses the index of the list's order."""
    if not selector:
        return await collection.estimated_document_count()
    options: dict[str, Any] = {"maxTimeMS": LIST_MILLISECONDS}
    if max_total is not None:
        options["limit"] = max_total
    if "$or" in selector:
        options["hint"] = [(field, ASCENDING) for field, _ in page.order]
    return await collection.count_documents(selector, **options)


def slice_page(
    items: Sequence[NamedType], limit: int, cursor: str | None, sort: NameSort | None = None
) -> tuple[Sequence[NamedType], str | None]:
    """Return a page of named items in memory, by default in their own order, and the cursor of the next page.

    Raises:
        InvalidInput: the cursor does not belong to this list.
    """
    ordered = items if sort is None else sorted(items, key=attrgetter("name"), reverse=sort == "-name")
    names = [f"{sort or ''}={one.name}" for one in ordered]
    start = 0
    if cursor is not None:
        try:
            start = names.index(base64.urlsafe_b64decode(cursor.encode()).decode()) + 1
        except ValueError:
            raise forged_cursor() from None
    end = start + limit
    next_cursor = base64.urlsafe_b64encode(names[end - 1].encode()).decode() if end < len(names) else None
    return ordered[start:end], next_cursor
