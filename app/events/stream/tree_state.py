"""How far a tree is stored, and which of its executions have ended."""

from dataclasses import dataclass

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.replay import ExecutionNotFound, StreamHead, read_head
from app.events.stored_numbers import last_seq_of
from app.events.stream.bus import Ending
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution, ExecutionStatus


@dataclass(frozen=True)
class TreeState:
    """The number of the last stored event of a tree, and its ended executions."""

    last_seq: int
    endings: list[Ending]


async def read_state(database: Database, tree: StreamHead) -> TreeState:
    """Return the current state of a tree, or of an execution of another program.

    Raises:
        ExecutionNotFound: it was removed.
    """
    if tree.is_foreign:
        head = await read_head(database, tree.execution_id)
        ended = head.status.is_terminal
        return TreeState(head.last_seq, [Ending(head.execution_id, head.status, head.last_seq)] if ended else [])
    fields = {"executionId": 1, "status": 1, "lastSeq": 1, "_id": 0}
    found = collection_of(database, AgentExecution).find({"rootExecutionId": tree.root_id}, fields)
    members = [one async for one in found]
    if not members:
        raise ExecutionNotFound(tree.execution_id)
    numbers = {str(one["executionId"]): await last_seq_of(database, one) for one in members}
    last_seq = max(numbers.values())
    endings = [
        Ending(
            one["executionId"],
            ExecutionStatus(one["status"]),
            last_seq if one["executionId"] == tree.root_id else numbers[one["executionId"]],
        )
        for one in members
        if one.get("status") in TERMINAL_STATUSES
    ]
    return TreeState(last_seq, endings)


async def has_ended(database: Database, execution_id: str) -> bool:
    """Return whether an execution has ended.

    Raises:
        ExecutionNotFound: it was removed.
    """
    found = await collection_of(database, AgentExecution).find_one({"executionId": execution_id}, {"status": 1})
    if found is None:
        raise ExecutionNotFound(execution_id)
    return found.get("status") in TERMINAL_STATUSES
