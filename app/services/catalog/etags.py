"""Entity tags of catalog documents, which cover the fields that people edit but not the statistics."""

import hashlib
from http import HTTPStatus

import bson

from app.database.connection import Raw
from app.database.statistics_updates import STATISTICS_FIELDS
from app.errors import AppError

REFERRED = "catalogVersion"
"""A counter that a new reference to a document increments, so that concurrent transactions conflict."""

IGNORED = STATISTICS_FIELDS | {"updatedAt", REFERRED}


class EditedMeanwhile(AppError):
    """The document is not the version that `If-Match` names."""

    code = "edited-meanwhile"
    status = HTTPStatus.PRECONDITION_FAILED

    def __init__(self) -> None:
        super().__init__(
            "The entry has changed since you read it. Read it again, and send the change with its new ETag."
        )


def etag_of(raw: Raw) -> str:
    """Return the entity tag of a document."""
    edited = {key: value for key, value in raw.items() if key not in IGNORED}
    return f'"{hashlib.sha256(bson.encode(edited)).hexdigest()[:32]}"'


def check_if_match(raw: Raw, if_match: str | None) -> None:
    """Check that a write is meant for the current version of a document.

    Raises:
        EditedMeanwhile: `if_match` is not `*` and does not list the current tag.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if etag_of(raw) not in [tag.strip().removeprefix("W/") for tag in if_match.split(",")]:
        raise EditedMeanwhile
