"""Idempotency keys: a request that is sent again gives the execution that the first one made.

The record is a part of the execution's own document, so that both are stored by one write or not at all, and a unique
index decides between requests that come at once.
"""

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

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
    """The record of a request: its key belongs to the caller and the path, its content is compared as a whole."""
    content = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    return Idempotency(key=digest(f"{caller_id}\n{path}\n{key}".encode()), fingerprint=digest(content))


def digest(content: bytes) -> str:
    """A hash of fixed length."""
    return hashlib.sha256(content).hexdigest()


async def find_made(database: Database, record: Idempotency) -> AgentExecution | None:
    """The root that an earlier request with the same key made.

    Raises:
        IdempotencyKeyReused: that request asked for something else.
    """
    executions = database[AgentExecution.get_collection_name()]
    found = validated(await executions.find_one({"idempotency.key": record.key}, WITHOUT_BULK))
    if found is not None and found.idempotency is not None and found.idempotency.fingerprint != record.fingerprint:
        raise IdempotencyKeyReused
    return found
