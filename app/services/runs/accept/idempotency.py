"""Idempotency keys: a repeated request returns the execution that the first one created.

The record is a part of the execution's document, so both are stored by one write or not at all. A unique index decides
between concurrent requests.
"""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from app.database.collections import collection_of
from app.database.connection import Database
from app.errors import AppError
from app.models.agent_execution import AgentExecution, Idempotency
from app.services.runs.engine.leases import WITHOUT_BULK, validated


class IdempotencyKeyReused(AppError):
    """The key was used for another request."""

    code = "idempotency-key-reused"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was sent before with another body. Use a new key for a new request.")


def idempotency_of(key: str, caller_id: str, path: str, request: Mapping[str, Any]) -> Idempotency:
    """Return the record of a request: the key is scoped to caller and path, the content hashed."""
    content = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    return Idempotency(key=digest(f"{caller_id}\n{path}\n{key}".encode()), fingerprint=digest(content))


def digest(content: bytes) -> str:
    """Return a hash of fixed length."""
    return hashlib.sha256(content).hexdigest()


async def find_made(database: Database, record: Idempotency) -> AgentExecution | None:
    """Return the root that an earlier request with the same key created, if any.

    Raises:
        IdempotencyKeyReused: that request had another body.
    """
    executions = collection_of(database, AgentExecution)
    found = validated(await executions.find_one({"idempotency.key": record.key}, WITHOUT_BULK))
    if found is not None and found.idempotency is not None and found.idempotency.fingerprint != record.fingerprint:
        raise IdempotencyKeyReused
    return found
