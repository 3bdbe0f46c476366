"""The hashes of trees for audit marks, computed after the write that leaves the mark, so that no run waits for them.

A tree must not be deleted or trimmed while a mark waits for the hash of its events: whoever does either calls
`hash_marked_trees` first, and `refuse_unhashed` inside the transaction.
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
    await hashed_marks(database, await collection_of(database, AuditMark).find(unhashed(root_id)).to_list())


async def hashed_marks(database: Database, marks: list[Raw]) -> list[Raw]:
    """Compute the hashes that marks wait for; return the marks as they are stored then.

    Of several processes that do so at the same time, the first one's result stands, so the hash is of a time when the
    tree was certainly complete.

    Raises:
        PyMongoError: the database is unavailable.
    """
    updates: list[UpdateOne] = []
    for group in one_of_each_tree(mark for mark in marks if waits_for_hash(mark)):
        states = await tree_states(database, {root_id: int(mark["tree"]["lastSeq"]) for root_id, mark in group.items()})
        for root_id, mark in group.items():
            unhashed_mark = {"_id": mark["_id"], "tree.isHashed": {"$ne": True}}
            updates.append(UpdateOne(unhashed_mark, {"$set": hash_fields(states[root_id])}))
    if not updates:
        return marks
    collection = collection_of(database, AuditMark)
    await collection.bulk_write(updates, ordered=False)
    stored = {raw["_id"]: raw async for raw in collection.find({"_id": {"$in": [mark["_id"] for mark in marks]}})}
    return [stored.get(mark["_id"], mark) for mark in marks]


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
