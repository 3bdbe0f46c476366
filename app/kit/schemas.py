"""The base of the API's schemas: field names, times, texts, ids, pages and entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, TypeVar

from bson import ObjectId
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from app.kit.times import iso_milliseconds


class ApiModel(BaseModel):
    """A schema of the API: camelCase, times in UTC with milliseconds, field docstrings as descriptions."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, use_attribute_docstrings=True
    )


ModelType = TypeVar("ModelType", bound=ApiModel)


def check_object_id(value: str) -> str:
    """Accept the id of a MongoDB document."""
    if not ObjectId.is_valid(value):
        raise ValueError("must be the 24-character hexadecimal id of a CMS document")
    return value


def check_storable_text(value: str) -> str:
    """Accept text that UTF-8 and MongoDB can store."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return value


Timestamp = Annotated[datetime, PlainSerializer(iso_milliseconds, return_type=str, when_used="json")]
Text = Annotated[str, AfterValidator(check_storable_text)]
ObjectIdStr = Annotated[str, AfterValidator(check_object_id), Field(json_schema_extra={"pattern": "^[0-9a-fA-F]{24}$"})]


@dataclass(frozen=True)
class Page:
    """A page of a list: its items, the number of items on all pages, and the cursor of the next page."""

    items: Sequence[ApiModel]
    total: int
    next_cursor: str | None


@dataclass(frozen=True)
class Entry(Generic[ModelType]):
    """A document in the shape of the API, with its entity tag."""

    shape: ModelType
    etag: str
