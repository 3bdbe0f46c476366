"""Reading a tree that another process began, and what a new one has stored."""

from app.events.rows import Stored
from app.events.whole import read_stored, tree_events
from app.models.agent import Agent
from app.models.agent_execution import AgentExecution
from app.models.database import Database
from app.services.catalog.loading import parsed
from app.services.runs.tree import RunTree


async def read_tree(database: Database, tree: RunTree) -> dict[str, Stored]:
    """All documents of a tree that was taken over; what they say of its executions goes into the tree."""
    found = database[AgentExecution.get_collection_name()].find(
        {"rootExecutionId": tree.root.execution_id}, {"runState": 0, "events": 0}
    )
    members = [one async for raw in found if (one := parsed(AgentExecution, raw))]
    agents = database[Agent.get_collection_name()].find(
        {"_id": {"$in": [one.agent for one in members]}}, {"agentId": 1}
    )
    names = {raw["_id"]: raw.get("agentId") async for raw in agents}
    for one in members:
        tree.adopt(one, names.get(one.agent))
    async for execution_id, event in tree_events(database, tree.root.execution_id):
        tree.stored_events.setdefault(execution_id, []).append(event)
    tree.log.last_seq = max(one.last_seq for one in members)
    return await read_stored(database, tree.root.execution_id)


def stored_new(root: AgentExecution) -> dict[str, Stored]:
    """The documents of a tree that has just begun."""
    assert root.id is not None  # noqa: S101 - it was stored
    return {root.execution_id: Stored(root.id)}
