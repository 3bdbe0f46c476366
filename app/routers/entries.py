"""The form in which single catalogue entries are answered: with their entity tag, new ones with their place."""

from typing import Annotated, TypeVar

from fastapi import Header, Response

from app.services.catalog.browsing import Entry
from app.services.catalog.shapes import Shape

ShapeType = TypeVar("ShapeType", bound=Shape)
WRITE_PROBLEMS = (400, 401, 403, 409, 413, 415, 422, 503)

IfMatch = Annotated[
    str | None,
    Header(max_length=1000, description="The ETag that you read: the write answers 412 when somebody else was faster."),
]


def answer_entry(entry: Entry[ShapeType], response: Response, location: str | None = None) -> ShapeType:
    """The shape of an entry, its tag in the headers."""
    response.headers["ETag"] = entry.etag
    if location is not None:
        response.headers["Location"] = location
    return entry.shape
