"""A dry run of a pass, and checks of what earlier passes have done."""

import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from app.database.clock import database_time
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.process_lease import COLLECTION
from app.events.archive.claims import CLAIMS
from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.reader import Archives, TreeArchive
from app.events.stored_numbers import plausible
from app.models.agent_execution import AgentExecution
from app.services.retention.due_trees import (
    DUE_INDEX,
    STATE_FIELDS,
    DueTree,
    Obstacle,
    continued_ids,
    due_trees,
    obstacle_of,
)
from app.services.retention.passes import JOB

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
ARCHIVE_FIELDS = dict.fromkeys(("executionId", "rootExecutionId", "archivedAt", "archive"), 1)


@dataclass
class Survey:
    """The trees that are old enough to be archived; `trees`, `executions` and `events` are those that can be now."""

    trees: int = 0
    executions: int = 0
    events: int = 0
    oldest: datetime | None = None
    obstacles: Counter[Obstacle] = field(default_factory=Counter[Obstacle])


async def survey(database: Database, cutoff: datetime, most: int | None = None) -> Survey:
    """Look at the trees that ended before a time without changing anything, at the oldest `most` or at all."""
    found = Survey()
    looked_at = 0
    continued = await continued_ids(database)
    async with aclosing(due_trees(database, cutoff)) as steps:
        async for trees in steps:
            await add_trees(database, found, trees, continued)
            looked_at += len(trees)
            if most is not None and looked_at >= most:
                break
    return found


async def add_trees(database: Database, found: Survey, trees: list[DueTree], continued: frozenset[str]) -> None:
    """Add some trees to a survey."""
    roots = {"rootExecutionId": {"$in": [tree.root_id for tree in trees]}}
    fields = {**STATE_FIELDS, "rootExecutionId": 1}
    raws = await collection_of(database, AgentExecution).find(roots, fields).sort("rootExecutionId").to_list()
    members = {root_id: list(states) for root_id, states in groupby(raws, key=lambda raw: raw["rootExecutionId"])}
    for tree in trees:
        states: list[Raw] = members.get(tree.root_id, [])
        obstacle = obstacle_of(tree.root_id, states)
        if obstacle is None and any(one["executionId"] in continued for one in states):
            obstacle = Obstacle.CONTINUED
        if obstacle is not None:
            found.obstacles[obstacle] += 1
            continue
        found.trees += 1
        found.executions += len(states)
        found.events += max(plausible(one.get("lastSeq") for one in states), default=0)
        found.oldest = found.oldest or tree.completed_at


async def last_pass(database: Database) -> tuple[datetime | None, bool]:
    """Return when the last pass of any process ended, if one has, and whether one is running now."""
    lease = await database[COLLECTION].find_one({"_id": JOB}) or {}
    now = await database_time(database)
    ended, until = lease.get("releasedAt"), lease.get("until")
    return ended, isinstance(until, datetime) and until > now


async def count_claims(database: Database) -> int:
    """Return the number of archives whose files an interrupted export or deletion has left."""
    return await database[CLAIMS].count_documents({})


async def sample_archives(database: Database, archives: Archives, most: int) -> AsyncGenerator[TreeArchive]:
    """Yield all archives if there are few, else the newest and some at random, found by an index."""
    executions = collection_of(database, AgentExecution)
    roots: Raw = {"parentExecutionId": None, "archivedAt": {"$gt": EARLIEST}}

    async def find(selector: Raw, direction: int, count: int) -> list[Raw]:
        found = executions.find({**selector, "completedAt": {"$exists": True}}, ARCHIVE_FIELDS).hint(DUE_INDEX)
        return await found.sort([("archivedAt", direction)]).limit(count).to_list()

    newest = await find(roots, -1, most)
    chosen = {raw["executionId"]: raw for raw in newest}
    if len(newest) == most:
        newest, oldest = newest[: most // 2], await find(roots, 1, 1)
        chosen = {raw["executionId"]: raw for raw in (*newest, *oldest)}
        first, last = oldest[0]["archivedAt"], newest[0]["archivedAt"]
        for moment in random_times(first, last, most - len(newest)):
            for raw in await find({**roots, "archivedAt": {"$gte": moment}}, 1, 1):
                chosen[raw["executionId"]] = raw
    for raw in chosen.values():
        if archive := archives.find(raw):
            yield archive


def random_times(first: datetime, last: datetime, count: int) -> Iterable[datetime]:
    """Yield random times between two times."""
    return (first + (last - first) * random.random() for _ in range(count))  # noqa: S311 - a sample


async def problem_with(archive: TreeArchive) -> str | None:
    """Return what is wrong with an archive, `None` if it is intact."""
    try:
        await archive.verify()
    except ArchiveUnreadable as error:
        return error.problem
    return None
