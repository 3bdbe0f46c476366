"""The form in which single catalogue entries are answered: with their entity tag, new ones with their place."""

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
    Header(max_length=1000, description="The ETag that you read: the write answers 412 when somebody else was faster."),
]


def answer_entry(entry: Entry[ModelType], response: Response, location: str | None = None) -> ModelType:
    """The shape of an entry, its tag in the headers."""
    response.headers["ETag"] = entry.etag
    if location is not None:
        response.headers["Location"] = location
    return entry.shape
