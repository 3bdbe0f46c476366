"""What all documents shared with Payload have in common: its field names, its timestamps, its idea of "unset"."""

import math
from datetime import datetime
from typing import Annotated, Any

from beanie import Document, PydanticObjectId
from beanie.odm.utils.dump import get_dict
from bson import ObjectId
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pymongo import ASCENDING, DESCENDING, IndexModel

from app.kit.times import utc_now


def new_row_id() -> str:
    """The 24-hex string that Payload gives each row of an array."""
    return str(ObjectId())


def unset_to_empty(value: object) -> object:
    """Payload leaves unset arrays out, or stores `null`: both read as `[]`."""
    return [] if value is None else value


RowId = Annotated[str, Field(default_factory=new_row_id)]
Relation = PydanticObjectId
"""A relationship: stored as an ObjectId; a 24-hex string that somebody else stored reads as one too."""


def stored_name(field: str) -> str:
    """The key of a document's field in MongoDB and in JSON: camelCase, and `_id`."""
    return "_id" if field == "id" else to_camel(field)


class EmbeddedRow(BaseModel):
    """A row of a Payload array: its field, then its own `id`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class PayloadDocument(Document):
    """A document that a Payload CMS reads, edits and re-saves too.

    Reading treats a key that is missing or `null` as unset, so that its default applies, and ignores fields it
    does not know; writing is by targeted updates only, so nothing unknown is ever lost.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    created_at: datetime = Field(default_factory=utc_now)
    updated_at: datetime = Field(default_factory=utc_now)

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic's own signature for raw input
        """A key that Payload cleared with `null` is unset."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value is not None}
        return values

    def as_stored(self) -> dict[str, Any]:
        """The document as it goes into MongoDB: unset keys left out, in Payload's order."""
        return get_dict(self, to_db=True, keep_nulls=False)


def payload_index(*keys: str | tuple[str, int], unique: bool = False) -> IndexModel:
    """An index with exactly the name and options with which Payload's adapter builds it."""
    pairs = [(key, ASCENDING) if isinstance(key, str) else key for key in keys]
    name = "_".join(f"{field}_{direction}" for field, direction in pairs)
    return IndexModel(pairs, name=name, background=True, **({"unique": True} if unique else {}))


def own_index(*keys: str) -> IndexModel:
    """An index of ours beside Payload's; a minus before a key is the descending order. `_id` decides between equals."""
    pairs = [(key.removeprefix("-"), DESCENDING if key.startswith("-") else ASCENDING) for key in keys]
    return IndexModel(pairs, name="_".join(f"{field}_{direction}" for field, direction in pairs))


TIMESTAMP_INDEXES = [payload_index("createdAt"), payload_index("updatedAt")]

Rows = BeforeValidator(unset_to_empty)
"""Reads an array that is missing, `null` or `[]` as the empty list."""


def rounded(value: object) -> object:
    """A double as the nearest whole number; what has none is left for pydantic to refuse."""
    return round(value) if isinstance(value, float) and math.isfinite(value) else value


WholeNumber = Annotated[int, BeforeValidator(rounded)]
"""A number of whole units that a JavaScript program may have stored as a double."""
