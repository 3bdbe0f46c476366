"""The index of prompts, for executions that an earlier release stored.

This service writes `promptWords` with every new execution. For older ones, a background task adds it in small steps,
along with the cost shown in lists. Executions of other programs stay unchanged.
"""

import asyncio
from typing import Any

import structlog
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from app.database.collections import Collection, collection_of
from app.database.connection import Database, Raw
from app.kit.words import MAX_READ_CHARACTERS, words_in
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution, ExecutionKind
from app.services.runs.queries.tree_totals import sum_trees

LOOK_EVERY_SECONDS = 60.0
EXECUTIONS_A_STEP = 50
"""The number of prompts whose words are extracted at a time, which takes about 5 ms on the event loop."""
BEGINNING = {
    "$cond": [
        {"$eq": [{"$type": "$prompt"}, "string"]},
        {"$substrCP": ["$prompt", 0, MAX_READ_CHARACTERS]},
        "",
    ]
}
NOT_INDEXED: Raw = {"promptWords": None, "rootExecutionId": {"$gt": ""}}
"""The executions of this service without the fields of the index."""
READ: Raw = {
    "beginning": BEGINNING,
    **dict.fromkeys(("executionId", "rootExecutionId", "kind", "status", "costUsd"), 1),
}

log = structlog.get_logger(__name__)


async def keep_prompts_indexed(database: Database, every_seconds: float = LOOK_EVERY_SECONDS) -> None:
    """Index the executions of earlier releases, and every minute those that their last processes still add, until
    cancelled."""
    while True:
        try:
            if count := await index_prompts(database):
                log.info("prompts-indexed", executions=count)
        except PyMongoError as error:
            log.warning("prompt-index-failed", error=type(error).__name__)
        await asyncio.sleep(every_seconds)


async def index_prompts(database: Database) -> int:
    """Index every execution of this service whose prompt is not indexed; returns their number."""
    executions = collection_of(database, AgentExecution)
    done = 0
    while found := await executions.find(NOT_INDEXED, READ).limit(EXECUTIONS_A_STEP).to_list():
        done += await add_index_fields(database, executions, found)
    return done


async def add_index_fields(database: Database, executions: Collection, found: list[Raw]) -> int:
    """Add the index fields to some executions; return the number that no other process had changed."""
    trees = [raw["executionId"] for raw in found if is_root_with_children(raw)]
    totals = await sum_trees(database, trees) if trees else {}
    updates: list[UpdateOne] = []
    for raw in found:
        fields: dict[str, Any] = {"promptWords": words_in(raw["beginning"])}
        total = totals.get(raw.get("executionId", ""))
        cost = total.cost_usd if total else raw.get("costUsd")
        if raw.get("status") in TERMINAL_STATUSES and isinstance(cost, int | float):
            fields["listedCostUsd"] = cost
        updates.append(UpdateOne({"_id": raw["_id"], "promptWords": None}, {"$set": fields}))
    return (await executions.bulk_write(updates, ordered=False)).matched_count


def is_root_with_children(raw: Raw) -> bool:
    """Return whether an execution is a root whose cost is that of several executions."""
    return raw.get("kind") != ExecutionKind.AGENT and raw.get("rootExecutionId") == raw.get("executionId") is not None
