"""The number of the last event in the stream of each execution."""

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.replay import count_rows
from app.events.stored_numbers import last_seq_of
from app.kit.paging import LIST_MILLISECONDS
from app.models.agent_execution import AgentExecution, ExecutionKind


async def read_last_seqs(database: Database, executions: list[AgentExecution]) -> dict[str, int]:
    """Return the number of the last event of some executions by their ids: for a root, in its complete tree."""
    found: dict[str, int] = {}
    for one in executions:
        if not one.is_ours:
            found[one.execution_id] = await count_rows(database, one.execution_id)
        else:
            own = {"executionId": one.execution_id, "lastSeq": one.last_seq}
            found[one.execution_id] = await last_seq_of(database, own)
    own_roots = [one for one in executions if one.is_ours and one.root_id == one.execution_id]
    roots = [one.execution_id for one in own_roots if one.kind is not ExecutionKind.AGENT]
    if roots:
        fields = {"executionId": 1, "rootExecutionId": 1, "lastSeq": 1, "_id": 0}
        members = collection_of(database, AgentExecution).find({"rootExecutionId": {"$in": roots}}, fields)
        async for member in members.max_time_ms(LIST_MILLISECONDS):
            root_id = member["rootExecutionId"]
            found[root_id] = max(found[root_id], await last_seq_of(database, member))
    return found
