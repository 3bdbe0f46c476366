"""Transactions with a time limit; PyMongo's own retries take up to two minutes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database

TRANSACTION_SECONDS = 4.5
TRANSACTION_LIFETIME_SECONDS = 10
"""The `transactionLifetimeLimitSeconds` of a MongoDB server that only this service uses.

A process killed inside a transaction leaves the documents that it changed locked until the server ends the transaction,
by default after 60 to 90 s. No transaction of a living process lasts longer than `TRANSACTION_SECONDS`.
"""
LONG_LIFETIME_SECONDS = 30
"""The limit above which the wait for a dead process's transaction is worth a note."""

Session = AsyncClientSession
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UsesDatabase(Protocol):
    """An object with a database."""

    @property
    def database(self) -> Database:
        """The database that it reads and writes."""
        ...


Owner = TypeVar("Owner", bound=UsesDatabase)


async def in_transaction(database: Database, work: Callable[[Session], Awaitable[Result]]) -> Result:
    """Run some work in a transaction and commit it with majority; conflicts are retried for a few seconds.

    The work can run several times.

    Raises:
        PyMongoError: the database is unavailable, or the conflicts did not end in time.
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


def transactional(
    method: Callable[Concatenate[Owner, Session, Parameters], Awaitable[Result]],
) -> Callable[Concatenate[Owner, Parameters], Coroutine[Any, Any, Result]]:
    """Run each call of a method in a transaction, whose session is the method's first argument.

    Callers leave the session out. The method can run several times, so it must not change its arguments.
    """

    @wraps(method)
    async def run(self: Owner, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return await in_transaction(self.database, lambda session: method(self, session, *args, **kwargs))

    return run
