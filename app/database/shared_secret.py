"""Secrets that all processes of one database share, generated on first use: the `shared-secrets` collection."""

import secrets
from typing import Any

from bson import Binary
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

COLLECTION = "shared-secrets"
SECRET_BYTES = 32


async def shared_secret(database: AsyncDatabase[dict[str, Any]], purpose: str) -> bytes:
    """Return the secret for a purpose, which is the same in every process; the first call creates it.

    Returns:
        32 random bytes.
    """
    collection = database[COLLECTION]
    stored: dict[str, Any] = await collection.find_one_and_update(
        {"_id": purpose},
        {"$setOnInsert": {"value": Binary(secrets.token_bytes(SECRET_BYTES))}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )  # pyright: ignore[reportAssignmentType] - an upsert returns a document
    return bytes(stored["value"])
