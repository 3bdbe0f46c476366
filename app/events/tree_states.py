"""The stored events of trees as they are now, for comparison with their hash in the audit log.

Reading is strict where replay is forgiving: a row without a number, in another document than its own, or out of order
makes a tree irregular, although a reader might not notice it.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from pymongo.errors import OperationFailure

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.events.log.full_events import is_cut, stored_tree_events
from app.events.replay import ExecutionNotFound
from app.events.tree_digest import EventsHash, EventUnreadable, hash_events
from app.kit.concurrency import Turns
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution
from app.models.execution_events import ExecutionEventPage

SMALL_BYTES = 256 * 1024
"""The documents of a tree up to this size are read at once, together with those of other trees."""
TREES_A_READ = 50
DOCUMENTS_A_BATCH = 16
"""PyMongo decodes a batch of documents at once, and nothing else runs meanwhile."""
MAX_CUT = 10_000
MEMBER_FIELDS = {"rootExecutionId": 1, "executionId": 1, "status": 1, "pagesFrom": 1, "archivedAt": 1, "events": 1}


class TreeIrregular(Exception):
    """The stored events of a tree are not in the form in which this service stores them; the message says how."""


@dataclass(frozen=True)
class CutEvent:
    """A truncated event: the size and the SHA-256 of its full text, which is stored separately."""

    seq: int
    size: Any
    sha256: Any


@dataclass
class TreeState:
    """The events of a tree as they are stored now."""

    hashed: EventsHash = field(default_factory=EventsHash)
    """The hash of the events up to the number asked for."""
    beyond: int = 0
    """How many events follow that number."""
    status: str | None = None
    """The root's status; `None` if there is no root."""
    is_archived: bool = False
    """Whether the root says that its events are in the archive."""
    problem: str | None = None
    """Why the events are irregular, if they are; the other fields then mean nothing."""
    cut: list[CutEvent] = field(default_factory=list[CutEvent])
    """The truncated events among those hashed."""


@dataclass
class LoadedTree:
    """A tree that is being read: its events, unless there are too many of them."""

    events: list[JsonObject] = field(default_factory=list[JsonObject])
    size_bytes: int = 0
    is_large: bool = False
    status: str | None = None
    is_archived: bool = False
    problem: str | None = None

    def add(self, raw: Raw, root_id: str) -> None:
        """Add a document of the tree."""
        self.size_bytes += raw["size"]
        self.is_large = self.is_large or self.size_bytes > SMALL_BYTES or raw.get("pagesFrom") is not None
        if raw.get("executionId") == root_id:
            self.status, self.is_archived = str(raw.get("status")), raw.get("archivedAt") is not None
        if self.is_large:
            self.events.clear()
            return
        try:
            self.events.extend(checked_rows(raw, root_id))
        except TreeIrregular as irregular:
            self.problem = self.problem or str(irregular)


async def tree_states(database: Database, wanted: Mapping[str, int]) -> dict[str, TreeState]:
    """Return the states of trees by root, each hashed up to the number given with it.

    Raises:
        PyMongoError: the database is unavailable.
    """
    states: dict[str, TreeState] = {}
    roots, turns = list(wanted), Turns()
    for start in range(0, len(roots), TREES_A_READ):
        loaded = await load_trees(database, roots[start : start + TREES_A_READ], turns)
        for root_id, tree in loaded.items():
            states[root_id] = await state_of(database, root_id, tree, wanted[root_id], turns)
    return states


async def load_trees(database: Database, roots: list[str], turns: Turns) -> dict[str, LoadedTree]:
    """Read the documents of trees; those of large ones are left to `stored_tree_events`."""
    loaded = {root_id: LoadedTree() for root_id in roots}
    members = {"rootExecutionId": {"$in": roots}}
    for root_id in await collection_of(database, ExecutionEventPage).distinct("rootExecutionId", members):
        loaded[root_id].is_large = True
    size = {"$bsonSize": {"e": {"$ifNull": ["$events", None]}}}
    small = {"$cond": [{"$lte": ["$size", SMALL_BYTES]}, "$events", None]}
    pipeline = [
        {"$match": members},
        {"$project": {**MEMBER_FIELDS, "size": size}},
        {"$set": {"events": small}},
    ]
    executions = collection_of(database, AgentExecution)
    async with await executions.aggregate(pipeline, batchSize=DOCUMENTS_A_BATCH) as found:
        async for raw in found:
            loaded[raw["rootExecutionId"]].add(raw, raw["rootExecutionId"])
            await turns.give()
    return loaded


async def state_of(database: Database, root_id: str, tree: LoadedTree, until: int, turns: Turns) -> TreeState:
    """Return the state of a tree that was read."""
    state = TreeState(status=tree.status, is_archived=tree.is_archived, problem=tree.problem)
    if state.problem is not None or state.status is None:
        return state
    try:
        rows = await check_large(database, root_id) if tree.is_large else len(tree.events)
        events = stored_tree_events(database, root_id) if tree.is_large else in_order(tree.events)
        state.hashed = await hash_events(noted(events, until, state), until, turns)
        if state.hashed.count + state.beyond != rows:
            raise TreeIrregular(f"{rows} events are stored, but {state.hashed.count + state.beyond} can be read")
    except (TreeIrregular, EventUnreadable, ExecutionNotFound, OperationFailure) as error:
        state.problem = error.message if isinstance(error, ExecutionNotFound) else str(error)[:200]
    return state


async def noted(events: AsyncGenerator[JsonObject], until: int, state: TreeState) -> AsyncGenerator[JsonObject]:
    """Yield the events up to a number; note the truncated ones, and how many follow."""
    async for event in events:
        if event["seq"] > until:
            state.beyond += 1
            continue
        if is_cut(event) and len(state.cut) < MAX_CUT:
            state.cut.append(CutEvent(event["seq"], event.get("size"), event.get("sha256")))
        yield event


async def in_order(events: list[JsonObject]) -> AsyncGenerator[JsonObject]:
    """Yield events in the order of their numbers."""
    for event in sorted(events, key=lambda event: event["seq"]):
        yield event


async def check_large(database: Database, root_id: str) -> int:
    """Check the documents and pages of a tree one by one, and return how many rows they have.

    Raises:
        TreeIrregular: one of them is not as this service stores it.
    """
    rows = 0
    collections: list[Collection] = [collection_of(database, one) for one in (AgentExecution, ExecutionEventPage)]
    for collection in collections:
        async for raw in collection.find({"rootExecutionId": root_id}, MEMBER_FIELDS).batch_size(4):
            rows += sum(1 for _ in checked_rows(raw, root_id))
    return rows


def checked_rows(raw: Raw, root_id: str) -> Iterator[JsonObject]:
    """Yield the events of a document or page.

    Raises:
        TreeIrregular: a row is not an event of this execution, or does not follow the row before it.
    """
    execution_id, rows = raw.get("executionId"), raw.get("events")
    if rows is None:
        return
    if not isinstance(rows, list):
        raise TreeIrregular(f"the events of {execution_id} are not a list")
    before = 0
    for place, row in enumerate(rows):
        event = row.get("event") if isinstance(row, dict) else None
        seq = event.get("seq") if isinstance(event, dict) else None
        if event is None or not is_whole(seq):
            raise TreeIrregular(f"row {place} of {execution_id} is not a numbered event")
        if event.get("executionId") != execution_id or event.get("rootExecutionId") != root_id:
            raise TreeIrregular(f"event {seq} in {execution_id} belongs to another execution")
        if seq <= before:
            raise TreeIrregular(f"event {seq} of {execution_id} is out of order")
        before = seq
        yield event


def is_whole(value: object) -> TypeGuard[int | float]:
    """Return whether a stored value is a whole number, which other programs may store as a double."""
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
