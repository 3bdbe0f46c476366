"""Counting ended executions on their agents and departments, and tool calls on their tools."""

from collections import Counter

import structlog
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from app.models.agent import Agent
from app.models.base import utc_now
from app.models.custom_tool import CustomTool
from app.models.database import Database
from app.models.department import Department
from app.models.statistics import counting_update
from app.services.runs.execution_run import ExecutionRun

log = structlog.get_logger(__name__)


async def count_executions(database: Database, runs: list[ExecutionRun]) -> None:
    """Count the executions that ended here, each by one atomic update a document.

    Statistics follow the audit record and are no part of it: a process that dies just before this leaves its
    executions uncounted.
    """
    agents: list[UpdateOne] = []
    departments: list[UpdateOne] = []
    for run in runs:
        succeeded, milliseconds = run.failure is None, run.execution.execution_time or 0
        agents.append(UpdateOne({"_id": run.agent.id}, counting_update(milliseconds, succeeded)))
        departments.append(UpdateOne({"_id": run.agent.department.id}, counting_update(milliseconds)))
    turns = (turn for run in runs for turn in run.state.turns)
    calls = Counter(call["function"]["name"] for turn in turns for call in turn.get("tool_calls", ()))
    now = utc_now()
    tools = [
        UpdateOne({"toolName": name}, {"$inc": {"totalExecutions": count}, "$set": {"lastUsedAt": now}})
        for name, count in calls.items()
    ]
    try:
        for document, updates in ((Agent, agents), (Department, departments), (CustomTool, tools)):
            if updates:
                await database[document.get_collection_name()].bulk_write(updates, ordered=False)
    except PyMongoError as error:
        log.warning("executions-not-counted", error=type(error).__name__)
