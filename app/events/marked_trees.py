"""The hashes of trees for audit marks, computed after the write that leaves the mark, so that no run waits for them.

A tree must not be deleted or trimmed while a mark waits for the hash of its events: callers that do either must first
call `hash_marked_trees`, and then `refuse_unhashed` inside the transaction.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pymongo import UpdateOne

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session
from app.events.outbox import field_of
from app.events.tree_states import TreeState, tree_states
from app.models.agent_execution import AgentExecution
from app.models.audit import AuditMark

AUDIT_CONSUMER = "audit"
"""The name of the outbox consumer that makes audit marks of the ends of trees."""


class TreeUnhashed(Exception):
    """A mark of the tree waits for the hash of its events."""


async def hash_marked_trees(database: Database, root_id: str) -> None:
    """Compute the hashes that the marks of a tree wait for.

    Raises:
        PyMongoError: the database is unavailable.
    """
    marks = collection_of(database, AuditMark)
    waiting = await marks.find(unhashed(root_id)).to_list()
    if found := await hashes_of(database, waiting):
        unhashed_marks = [({"_id": one, "tree.isHashed": {"$ne": True}}, tree) for one, tree in found.items()]
        await marks.bulk_write([UpdateOne(mark, {"$set": tree}) for mark, tree in unhashed_marks], ordered=False)


async def hashed_marks(database: Database, marks: list[Raw]) -> list[Raw]:
    """Return marks with the hashes that they wait for.

    A tree is deleted or trimmed only after its hash is stored in its mark. So if a mark still has no hash after its
    tree was read, the tree was complete; for other marks, the stored hash counts.

    Raises:
        PyMongoError: the database is unavailable.
    """
    found = await hashes_of(database, marks)
    if not found:
        return marks
    stored = {raw["_id"]: raw async for raw in collection_of(database, AuditMark).find({"_id": {"$in": list(found)}})}
    return [with_hash(stored.get(mark["_id"], mark), found.get(mark["_id"])) for mark in marks]


def with_hash(mark: Raw, found: Raw | None) -> Raw:
    """Return a mark with the fields that were found for it, unless it has its hash already."""
    if found is None or not waits_for_hash(mark):
        return mark
    tree = {name.partition(".")[2]: value for name, value in found.items()}
    return {**mark, "tree": {**mark["tree"], **tree}}


async def hashes_of(database: Database, marks: Iterable[Raw]) -> dict[Any, Raw]:
    """Return the fields that marks wait for, by the `_id` of the mark.

    Raises:
        PyMongoError: the database is unavailable.
    """
    found: dict[Any, Raw] = {}
    for group in one_of_each_tree(mark for mark in marks if waits_for_hash(mark)):
        states = await tree_states(database, {root_id: int(mark["tree"]["lastSeq"]) for root_id, mark in group.items()})
        found |= {mark["_id"]: hash_fields(states[root_id]) for root_id, mark in group.items()}
    return found


def waits_for_hash(mark: Raw) -> bool:
    """Return whether a mark is about a tree whose events are not hashed yet."""
    tree: Any = mark.get("tree")
    return tree is not None and not tree.get("isHashed")


def one_of_each_tree(marks: Iterable[Raw]) -> Iterator[dict[str, Raw]]:
    """Yield marks by their trees' roots, in groups without two marks of the same tree."""
    by_root: dict[str, list[Raw]] = {}
    for mark in marks:
        by_root.setdefault(str(mark["tree"]["rootExecutionId"]), []).append(mark)
    while by_root:
        yield {root_id: waiting.pop(0) for root_id, waiting in by_root.items()}
        by_root = {root_id: waiting for root_id, waiting in by_root.items() if waiting}


def hash_fields(state: TreeState) -> Raw:
    """Return the fields of a mark that hold a tree's hash, or the reason why it cannot be computed."""
    if state.problem is not None or state.status is None:
        return {"tree.isHashed": True, "tree.problem": state.problem or "the tree is missing"}
    return {"tree.isHashed": True, "tree.eventsHash": state.hashed.hexdigest()}


async def refuse_unhashed(database: Database, root_id: str, session: Session) -> None:
    """Check inside a transaction that no hash of a tree is outstanding.

    Raises:
        TreeUnhashed: one is.
    """
    if await collection_of(database, AuditMark).find_one(unhashed(root_id), {"_id": 1}, session=session):
        raise TreeUnhashed
    ended = {"executionId": root_id, field_of(AUDIT_CONSUMER): {"$exists": True}}
    if await collection_of(database, AgentExecution).find_one(ended, {"_id": 1}, session=session):
        raise TreeUnhashed


def unhashed(root_id: str) -> Raw:
    """Return the selector of the marks of a tree that wait for a hash."""
    return {"tree.rootExecutionId": root_id, "tree.isHashed": {"$ne": True}}
