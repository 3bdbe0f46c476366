"""Responses with a single entry, its entity tag, and the location of a new one."""

from typing import Annotated, TypeVar

from fastapi import Header, Response

from app.kit.schemas import ApiModel, Entry
from app.routers.http.problems import BODY_PROBLEMS

ModelType = TypeVar("ModelType", bound=ApiModel)
CREATE_PROBLEMS = (*BODY_PROBLEMS, 403, 409)
UPDATE_PROBLEMS = (*CREATE_PROBLEMS, 404, 412)
DELETE_PROBLEMS = (403, 404, 409, 412)

IfMatch = Annotated[
    str | None,
    Header(
        max_length=1000,
        description="The `ETag` of the entry as you read it. If the entry has changed since, the response is 412.",
    ),
]


def answer_entry(entry: Entry[ModelType], response: Response, location: str | None = None) -> ModelType:
    """Return an entry with its tag in the headers."""
    response.headers["ETag"] = entry.etag
    if location is not None:
        response.headers["Location"] = location
    return entry.shape
