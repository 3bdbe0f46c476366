"""Secrets that all processes of one database share, generated on first use: the `shared-secrets` collection."""

import secrets
from typing import Any

from beanie import Document
from bson import Binary
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

SECRET_BYTES = 32


class SharedSecret(Document):
    """One secret; its `_id` names its purpose."""

    id: str  # pyright: ignore[reportIncompatibleVariableOverride] - Beanie's own way to another type of `_id`
    value: bytes

    class Settings:
        """Collection and indexes."""

        name = "shared-secrets"
        indexes = ()


async def shared_secret(database: AsyncDatabase[dict[str, Any]], purpose: str) -> bytes:
    """The secret for a purpose, the same in every process; created by the first one that asks.

    Returns:
        32 random bytes.
    """
    collection = database[SharedSecret.Settings.name]
    stored = await collection.find_one_and_update(
        {"_id": purpose},
        {"$setOnInsert": {"value": Binary(secrets.token_bytes(SECRET_BYTES))}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    return bytes(stored["value"])
