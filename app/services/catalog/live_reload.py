"""Live reload: the next run of this process uses each edit of a definition, made through the API, a CMS or by hand.

A change stream on the catalog's collections and the quality weights clears the cached definitions of this process.
While the stream is interrupted, cached definitions expire after their time to live.
"""

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from pymongo.errors import PyMongoError

from app.database.connection import Database
from app.database.etags import IGNORED
from app.kit.concurrency import end_tasks
from app.kit.json_values import JsonObject
from app.models.catalog.agent import Agent
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.models.catalog.quality_weights import QualityWeights

RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


def edits_only() -> list[JsonObject]:
    """Return the pipeline with which the server selects edits of definitions."""
    changed = {"$map": {"input": {"$objectToArray": "$updateDescription.updatedFields"}, "in": "$$this.k"}}
    statistics_alone = {
        "$and": [
            {"$eq": ["$operationType", "update"]},
            {"$setIsSubset": [{"$ifNull": [changed, []]}, sorted(IGNORED)]},
            {"$eq": [{"$ifNull": ["$updateDescription.removedFields", []]}, []]},
        ]
    }
    collections = [document.get_collection_name() for document in (Department, Agent, CustomTool, QualityWeights)]
    return [
        {"$match": {"ns.coll": {"$in": collections}, "$expr": {"$not": [statistics_alone]}}},
        {"$project": {"operationType": 1, "ns": 1}},
    ]


class LiveReload:
    """Watches the catalog, and calls `on_edit` after each edit."""

    def __init__(self, database: Database, on_edit: Callable[[], None]) -> None:
        self._database = database
        self._on_edit = on_edit
        self._watching = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start watching; later edits are reported."""
        self._task = asyncio.create_task(self._watch_for_ever(), name="live reload")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._watching.wait()

    async def stop(self) -> None:
        """Stop watching."""
        if self._task:
            await end_tasks(self._task)

    async def _watch_for_ever(self) -> None:
        """Watch, and open a new stream whenever one ends.

        The driver resumes a stream after a lost connection or a new primary. If it cannot (the history is lost, the
        database was dropped), a new stream starts with an empty cache, so nothing needs to be resumed.
        """
        while True:
            try:
                await self._watch()
            except PyMongoError as error:
                log.warning("live-reload-interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _watch(self) -> None:
        async with await self._database.watch(edits_only()) as stream:
            self._on_edit()  # edits that no stream has reported may be cached
            self._watching.set()
            async for change in stream:
                log.debug("definition-edited", collection=change["ns"]["coll"], operation=change["operationType"])
                self._on_edit()
