"""Transactions that end in time, one way or the other: PyMongo's own would be tried again for two minutes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.database import Database

TRANSACTION_SECONDS = 4.5

Result = TypeVar("Result")


async def in_transaction(database: Database, work: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    """Commit some work with majority, or none of it; conflicts are tried again for a few seconds.

    Raises:
        PyMongoError: the database is away, or others were faster all the time.
    """
    with pymongo.timeout(TRANSACTION_SECONDS):
        async with database.client.start_session() as session:
            return await session.with_transaction(work, write_concern=database.write_concern)
