"""Entity tags of catalogue documents: of what people edit in them, whoever did, not of their statistics."""

import hashlib
from http import HTTPStatus

import bson

from app.database.connection import Raw
from app.database.statistics_updates import STATISTICS_FIELDS
from app.errors import AppError

REFERRED = "catalogVersion"
"""Counted up in a document that another begins to refer to; its only use is that two transactions meet on it."""

IGNORED = STATISTICS_FIELDS | {"updatedAt", REFERRED}


class EditedMeanwhile(AppError):
    """The document is no longer the one that `If-Match` names."""

    code = "edited-meanwhile"
    status = HTTPStatus.PRECONDITION_FAILED

    def __init__(self) -> None:
        super().__init__("Somebody changed it since you read it. Read it again, and send the change with its new ETag.")


def etag_of(raw: Raw) -> str:
    """The entity tag of a document."""
    edited = {key: value for key, value in raw.items() if key not in IGNORED}
    return f'"{hashlib.sha256(bson.encode(edited)).hexdigest()[:32]}"'


def check_if_match(raw: Raw, if_match: str | None) -> None:
    """Refuse a write that was made for another state of the document.

    Raises:
        EditedMeanwhile: `if_match` is neither `*` nor among its tags.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if etag_of(raw) not in [tag.strip().removeprefix("W/") for tag in if_match.split(",")]:
        raise EditedMeanwhile
