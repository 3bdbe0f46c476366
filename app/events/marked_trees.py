"""The hashes of trees for audit marks, computed after the write that leaves the mark, so that no run waits for them.

A tree must not be deleted or trimmed while a mark waits for the hash of its events: whoever does either calls
`hash_marked_trees` first, and `refuse_unhashed` inside the transaction.
"""

from typing import Any

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.transactions import Session
from app.events.outbox import field_of
from app.events.tree_states import tree_states
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
    waiting = await collection_of(database, AuditMark).find(unhashed(root_id)).to_list()
    for mark in waiting:
        await hash_marked_tree(database, mark)


async def hash_marked_tree(database: Database, mark: Raw) -> Raw:
    """Compute the hash that a mark waits for, if it does; return the mark as it is stored then.

    Of several processes that do so at the same time, the first one's result stands, so the hash is of a time when the
    tree was certainly complete.

    Raises:
        PyMongoError: the database is unavailable.
    """
    tree: Any = mark.get("tree")
    if tree is None or tree.get("isHashed"):
        return mark
    root_id, last_seq = str(tree["rootExecutionId"]), int(tree["lastSeq"])
    state = (await tree_states(database, {root_id: last_seq}))[root_id]
    found: Raw = {"tree.isHashed": True, "tree.eventsHash": state.hashed.hexdigest()}
    if state.problem is not None or state.status is None:
        found = {"tree.isHashed": True, "tree.problem": state.problem or "the tree is missing"}
    marks = collection_of(database, AuditMark)
    await marks.update_one({"_id": mark["_id"], "tree.isHashed": {"$ne": True}}, {"$set": found})
    return await marks.find_one({"_id": mark["_id"]}) or mark


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
