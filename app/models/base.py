"""The base of documents shared with Payload: its field names, its timestamps, its unset values."""

import math
from datetime import datetime
from typing import Annotated, Any, cast

from beanie import Document, PydanticObjectId
from beanie.odm.utils.dump import get_dict
from bson import ObjectId
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pymongo import ASCENDING, DESCENDING, IndexModel

from app.kit.times import utc_now


def new_row_id() -> str:
    """Return a new id for a row of an array: 24 hexadecimal characters, as in Payload."""
    return str(ObjectId())


def unset_to_empty(value: object) -> object:
    """Read an unset array as `[]`; Payload omits it or stores `null`."""
    return [] if value is None else value


RowId = Annotated[str, Field(default_factory=new_row_id)]
Relation = PydanticObjectId
"""A relation, stored as an ObjectId; a string of 24 hexadecimal characters is also accepted."""


def stored_name(field: str) -> str:
    """Return the key of a field in MongoDB and JSON: camelCase, or `_id`."""
    return "_id" if field == "id" else to_camel(field)


class EmbeddedRow(BaseModel):
    """A row of a Payload array: its field, then its own `id`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


MAX_CRITERIA = 20
MAX_CRITERION_CHARACTERS = 1_000


class CriterionRow(EmbeddedRow):
    """One criterion of good work, in words."""

    criterion: str
    id: RowId


def text_rows(value: object) -> object:
    """Read an array of rows; a bare text counts as a row, anything else is left out."""
    rows = cast("list[object]", value) if isinstance(value, list) else []
    found = [{"criterion": row} if isinstance(row, str) else row for row in rows]
    return [row for row in found if isinstance(row, dict) and isinstance(cast("JsonRow", row).get("criterion"), str)]


JsonRow = dict[str, Any]
CriterionRows = Annotated[list[CriterionRow], BeforeValidator(text_rows)]
"""The criteria of a department or an agent, by which the judge scores its work."""


class PayloadDocument(Document):
    """A document that a Payload CMS also reads, edits and saves.

    When reading, a missing or `null` key takes its default, and unknown fields are ignored. Writes are targeted updates
    only, so unknown fields are never lost.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic's own signature for raw input
        """Treat keys that Payload cleared with `null` as unset."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value is not None}
        return values

    def as_stored(self) -> dict[str, Any]:
        """Return the document in stored form: without unset keys, in Payload's order."""
        return get_dict(self, to_db=True, keep_nulls=False)


def payload_index(*keys: str | tuple[str, int], unique: bool = False) -> IndexModel:
    """Return an index with the name and options that Payload's adapter uses."""
    pairs = [(key, ASCENDING) if isinstance(key, str) else key for key in keys]
    name = "_".join(f"{field}_{direction}" for field, direction in pairs)
    return IndexModel(pairs, name=name, background=True, **({"unique": True} if unique else {}))


def own_index(*keys: str) -> IndexModel:
    """Return an index of the service; a minus before a key means descending order."""
    pairs = [(key.removeprefix("-"), DESCENDING if key.startswith("-") else ASCENDING) for key in keys]
    return IndexModel(pairs, name="_".join(f"{field}_{direction}" for field, direction in pairs))


def optional_index(*keys: str) -> IndexModel:
    """Return an index of the service over the documents that have the first key."""
    index = own_index(*keys).document
    first = keys[0].removeprefix("-")
    return IndexModel(
        list(index["key"].items()), name=index["name"], partialFilterExpression={first: {"$exists": True}}
    )


TIMESTAMP_INDEXES = [payload_index("createdAt"), payload_index("updatedAt")]

Rows = BeforeValidator(unset_to_empty)
"""Reads an array that is missing, `null` or `[]` as the empty list."""


def rounded(value: object) -> object:
    """Round a finite double; pydantic refuses other values."""
    return round(value) if isinstance(value, float) and math.isfinite(value) else value


WholeNumber = Annotated[int, BeforeValidator(rounded)]
"""A whole number that a JavaScript program may have stored as a double."""
