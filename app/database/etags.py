"""Entity tags of documents, which cover the fields that people edit but not the statistics."""

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
    return tag_of(edited)


def tag_of(content: Raw) -> str:
    """Return the entity tag of exactly this content."""
    return f'"{hashlib.sha256(bson.encode(content)).hexdigest()[:32]}"'


def check_if_match(raw: Raw, if_match: str | None) -> None:
    """Check that a write is meant for the current version of a document.

    Raises:
        EditedMeanwhile: `if_match` is not `*` and does not list the current tag.
    """
    if if_match is not None:
        check_tag(etag_of(raw), if_match)


def check_tag(current: str | None, if_match: str | None) -> None:
    """Check that a write is meant for the version with a tag; `None` means that there is no version.

    Raises:
        EditedMeanwhile: `if_match` does not list the current tag; `*` stands for any.
    """
    if if_match is None:
        return
    if current is None or (if_match.strip() != "*" and current not in tags_in(if_match)):
        raise EditedMeanwhile


def tags_in(if_match: str) -> list[str]:
    """Return the entity tags that the header lists."""
    return [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
