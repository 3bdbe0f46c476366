"""Transactions that end in time, one way or the other: PyMongo's own would be tried again for two minutes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database

TRANSACTION_SECONDS = 4.5

Result = TypeVar("Result")


async def in_transaction(database: Database, work: Callable[[AsyncClientSession], Awaitable[Result]]) -> Result:
    """Commit some work with majority, or none of it; conflicts are tried again for a few seconds.

    Raises:
        PyMongoError: the database is away, or others were faster all the time.
    """
    task = asyncio.current_task()
    cancels = task.cancelling() if task else 0
    try:
        with pymongo.timeout(TRANSACTION_SECONDS):
            async with database.client.start_session() as session:
                return await session.with_transaction(work, write_concern=database.write_concern)
    finally:  # with a time limit PyMongo uses `asyncio.wait_for`, which up to Python 3.11 can swallow a cancellation
        if task and task.cancelling() > cancels:
            raise asyncio.CancelledError
