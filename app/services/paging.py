"""Lists in pages: ordered by a field and `_id`, continued after the last row seen, stable while rows are inserted."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from bson.errors import BSONError
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads

from app.errors import InvalidInput
from app.models.json_values import JsonObject, clean_text

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class PageRequest:
    """Which page of a list: `sort` is a field, with a minus before it for the descending order."""

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
        """The order in MongoDB's form; `_id` decides between equals."""
        return [(self.field, self.direction), ("_id", self.direction)]

    def selector(self) -> JsonObject:
        """The condition that leaves out what earlier pages showed.

        Raises:
            InvalidInput: the cursor is not one that this list gave.
        """
        if self.cursor is None:
            return {}
        value, last_id = self._decode(self.cursor)
        beyond = "$lt" if self.direction < 0 else "$gt"
        same = {self.field: value, "_id": {beyond: last_id}}
        further: list[JsonObject] = [{self.field: {beyond: value}}]
        if value is None:
            # Unset sorts before everything: going up all set values follow, going down none do.
            further = [{self.field: {"$ne": None}}] if self.direction > 0 else []
        elif self.direction < 0:
            further.append({self.field: None})
        return {"$or": [same, *further]}

    def cursor_after(self, row: JsonObject) -> str:
        """The cursor that continues after a row."""
        content = {"s": self.sort, "v": row.get(self.field), "i": row["_id"]}
        return base64.urlsafe_b64encode(dumps(content, json_options=CANONICAL_JSON_OPTIONS).encode()).decode()

    def _decode(self, cursor: str) -> tuple[Any, ObjectId]:
        try:
            content = loads(base64.urlsafe_b64decode(cursor.encode()).decode(), json_options=CANONICAL_JSON_OPTIONS)
            value, last_id = content["v"], content["i"]
            fits = content["s"] == self.sort and isinstance(last_id, ObjectId)
        except FORGERIES:
            raise forged_cursor() from None
        if not fits or not is_sortable(value):
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
"""What decoding raises over a cursor that somebody made up: each form of extended JSON has faults of its own."""


def is_sortable(value: object) -> bool:
    """Whether a list can be ordered by a value, and MongoDB be asked for it."""
    if isinstance(value, str):
        return clean_text(value) == value
    if isinstance(value, int):
        return abs(value) <= MAX_INT64
    return isinstance(value, float | datetime | None)


def forged_cursor() -> InvalidInput:
    """The answer to a cursor that no list gave."""
    return InvalidInput.of_field("cursor", "is not a nextCursor that this list gave with this sort")
