"""The scopes that have a budget, kept in memory: a call without a budget costs no database request.

A change stream reports new and deleted budgets to every process; while it is interrupted, the scopes are read again
each second.
"""

import asyncio
import contextlib

import structlog
from pymongo.errors import PyMongoError

from app.database.collections import collection_of
from app.kit.concurrency import end_tasks
from app.models.budget import Budget
from app.services.usage.budgets.store import BudgetStore

RETRY_SECONDS = 0.5
CREATED_OR_DELETED = [
    {"$match": {"operationType": {"$in": ["insert", "replace", "delete", "drop", "rename", "dropDatabase"]}}},
    {"$project": {"operationType": 1}},
]

log = structlog.get_logger(__name__)


class KnownBudgets:
    """Knows which scopes have a budget."""

    def __init__(self, store: BudgetStore) -> None:
        self._store = store
        self._scopes: frozenset[str] = frozenset()
        self._watching = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def among(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the scopes that have a budget, in the same order."""
        return tuple(scope for scope in scopes if scope in self._scopes) if self._scopes else ()

    @property
    def any(self) -> bool:
        """Whether there is any budget."""
        return bool(self._scopes)

    async def refresh(self) -> None:
        """Read the scopes again."""
        self._scopes = await self._store.scopes()

    async def start(self) -> None:
        """Read the scopes and start to watch them."""
        await self.refresh()
        self._task = asyncio.create_task(self._watch_for_ever(), name="known budgets")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS * 2):
                await self._watching.wait()

    async def stop(self) -> None:
        """Stop watching."""
        await end_tasks(self._task)

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                await self._watch()
            except PyMongoError as error:
                log.warning("budgets-watch-interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self) -> None:
        collection = collection_of(self._store.database, Budget)
        async with await collection.watch(CREATED_OR_DELETED) as stream:
            await self.refresh()  # changes that no stream has reported
            self._watching.set()
            async for _ in stream:
                await self.refresh()
