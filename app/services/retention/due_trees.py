"""The run trees that are old enough to be archived, and the reasons why some of them are not."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.database.clock import database_time
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.events.archive.form import SAFE_ID
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution, ReviewStatus

STEP_TREES = 50
DUE_INDEX = "retention_1"
DUE_FIELDS = dict.fromkeys(("executionId", "rootExecutionId", "completedAt", "legalHold"), 1)
STATE_FIELDS = dict.fromkeys(
    (
        *("executionId", "parentExecutionId", "status", "reviewStatus", "fence", "lastSeq", "updatedAt", "completedAt"),
        *(
            "personReview",
            "lease",
            "reopening",
            "waitingFor",
            "uncounted",
            "outbox",
            "legalHold",
            "archivedAt",
            "archive",
        ),
    ),
    1,
)
COMPARED = ("executionId", "status", "reviewStatus", "fence", "lastSeq", "updatedAt", "completedAt")
"""Fields of which at least one changes whenever the content for the archive changes."""


class Obstacle(StrEnum):
    """The reasons why a tree that is old enough is not archived."""

    HELD = "held"
    """It is under a legal hold."""
    RUNNING = "running"
    """An execution of it has not ended."""
    REVIEW = "review"
    """A person sent an execution of it back and has not decided on the revised work."""
    UNCOUNTED = "uncounted"
    """Work that follows its end, such as statistics, has not been stored."""
    CONTINUED = "continued"
    """An unfinished run retries it or continues its conversation."""
    DAMAGED = "damaged"
    """It is stored in a form that an archive cannot hold."""


@dataclass(frozen=True)
class DueTree:
    """A tree whose root ended before the cutoff."""

    root_id: str
    completed_at: datetime


async def cutoff_before(database: Database, days: float) -> datetime:
    """Return the time some days ago, by the database's clock."""
    return await database_time(database) - timedelta(days=days)


async def due_trees(database: Database, cutoff: datetime) -> AsyncGenerator[list[DueTree]]:
    """Yield the trees that ended before a time and are not archived, in the order of an index, a step at a time.

    Each is found once, whether it can be archived or not. Nothing is sorted: the index begins with the oldest.
    """
    selector: Raw = {"parentExecutionId": None, "archivedAt": None, "completedAt": {"$lt": cutoff}}
    found = collection_of(database, AgentExecution).find(selector, DUE_FIELDS, hint=DUE_INDEX, batch_size=STEP_TREES)
    trees: list[DueTree] = []
    async with found:
        async for raw in found:
            if is_own_root(raw):
                trees.append(DueTree(raw["executionId"], raw["completedAt"]))
            if len(trees) >= STEP_TREES:
                yield trees
                trees = []
    if trees:
        yield trees


def is_own_root(raw: Mapping[str, Any]) -> bool:
    """Return whether a document is the root of a tree of this service; others are never archived."""
    root_id = raw.get("executionId")
    return root_id == raw.get("rootExecutionId") and isinstance(raw.get("completedAt"), datetime)


async def read_states(database: Database, root_id: str, session: Any = None) -> list[Raw]:  # noqa: ANN401 - PyMongo's session
    """Return the state of each execution of a tree, the oldest first."""
    found = collection_of(database, AgentExecution).find({"rootExecutionId": root_id}, STATE_FIELDS, session=session)
    return await found.sort("_id").to_list()


def obstacle_of(root_id: str, states: Sequence[Raw]) -> Obstacle | None:
    """Return what keeps a tree from being archived, as far as its documents show it."""
    root = next((one for one in states if one["executionId"] == root_id), None)
    if root is None or not SAFE_ID.fullmatch(root_id):
        return Obstacle.DAMAGED
    if root.get("legalHold") is True:
        return Obstacle.HELD
    if root.get("lease") or root.get("reopening") or any(map(is_unfinished, states)):
        return Obstacle.RUNNING
    if any(map(awaits_person, states)):
        return Obstacle.REVIEW
    if any(map(has_marks, states)):
        return Obstacle.UNCOUNTED
    return None


def is_unfinished(state: Raw) -> bool:
    """Return whether an execution has not ended, or waits for a decision."""
    return state.get("status") not in TERMINAL_STATUSES or bool(state.get("waitingFor"))


def awaits_person(state: Raw) -> bool:
    """Return whether a person sent an execution back and no one has decided on the revised work since."""
    review: Any = state.get("personReview")
    by_person = isinstance(review, dict) and review.get("status") == ReviewStatus.REVISION_NEEDED
    return by_person and state.get("reviewStatus") == ReviewStatus.REVISION_NEEDED


def has_marks(state: Raw) -> bool:
    """Return whether an execution still has a mark of the outbox."""
    marks: Any = state.get("outbox")
    pending = any(marks.values()) if isinstance(marks, dict) else marks is not None
    return pending or state.get("uncounted") is not None


def have_changed(before: Sequence[Raw], now: Sequence[Raw]) -> bool:
    """Return whether a tree has changed since it was read."""

    def compared(states: Sequence[Raw]) -> list[list[Any]]:
        return [[one.get(name) for name in COMPARED] for one in states]

    return compared(before) != compared(now)


async def continued_ids(database: Database) -> frozenset[str]:
    """Return the ids of the executions that unfinished runs retry or continue."""
    unfinished = {"lease.until": {"$exists": True}}
    found = collection_of(database, AgentExecution).find(unfinished, {"_id": 0, "retryOf": 1, "previousExecutionId": 1})
    return frozenset([value for raw in await found.to_list() for value in raw.values() if isinstance(value, str)])
