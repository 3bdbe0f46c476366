"""The tokens and costs of run trees."""

from typing import Any

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.kit.json_values import JsonObject
from app.kit.paging import LIST_MILLISECONDS
from app.kit.schemas import ApiModel
from app.models.agent_execution import AgentExecution, ExecutionKind
from app.services.llm.calls import COST_DECIMALS, TokenUsage

TOKEN_FIELDS = ("input", "output", "cacheRead", "cacheWrite")


class TreeTotal(ApiModel):
    """The sums over a run tree."""

    token_usage: JsonObject
    """The tokens of all its model calls, `{"input", "output", "total", "cacheRead", "cacheWrite"}`."""
    cost_usd: float | None
    """The cost of all its model calls in US dollars; `null` if a price is unknown."""
    executions: int
    """The number of its executions."""


async def read_totals(database: Database, executions: list[AgentExecution]) -> dict[str, TreeTotal]:
    """Return the sums over the trees of the roots among some executions, by their ids."""
    roots = [one for one in executions if one.is_ours and one.root_id == one.execution_id]
    alone = {one.execution_id: own_total(one) for one in roots if one.kind is ExecutionKind.AGENT}
    ids = [one.execution_id for one in roots if one.execution_id not in alone]
    return alone | (await sum_trees(database, ids) if ids else {})


async def sum_trees(database: Database, roots: list[str]) -> dict[str, TreeTotal]:
    """Return the sums over the trees of some roots by their ids, from the index alone."""
    sums = {name: {"$sum": f"$tokenUsage.{name}"} for name in TOKEN_FIELDS}
    unpriced = {"$and": [{"$isNumber": "$tokenUsage.input"}, {"$not": [{"$isNumber": "$costUsd"}]}]}
    pipeline: list[JsonObject] = [
        {"$match": {"rootExecutionId": {"$in": roots}}},
        {
            "$project": {
                "_id": 0,
                "rootExecutionId": 1,
                "costUsd": 1,
                **{f"tokenUsage.{n}": 1 for n in TOKEN_FIELDS},
            }
        },
        {
            "$group": {
                "_id": "$rootExecutionId",
                "executions": {"$sum": 1},
                "unpriced": {"$sum": {"$cond": [unpriced, 1, 0]}},
                "cost": {"$sum": "$costUsd"},
                **sums,
            }
        },
    ]
    executions = collection_of(database, AgentExecution)
    async with await executions.aggregate(pipeline, maxTimeMS=LIST_MILLISECONDS) as found:
        return {one["_id"]: tree_total(one) async for one in found}


def own_total(execution: AgentExecution) -> TreeTotal:
    """Return the sums over a tree of one execution."""
    usage: Any = execution.token_usage
    has_ended = isinstance(usage, dict) and all(isinstance(usage.get(name), int) for name in TOKEN_FIELDS)
    spent = {"tokenUsage": usage, "costUsd": execution.cost_usd} if has_ended else {"costUsd": 0.0}
    return TreeTotal.model_validate({"tokenUsage": TokenUsage().as_json(), **spent, "executions": 1})


def tree_total(sums: Raw) -> TreeTotal:
    """Return the sums over a tree as the API shows them."""
    usage = TokenUsage(*(int(sums[name]) for name in TOKEN_FIELDS))
    cost = None if sums["unpriced"] else round(float(sums["cost"]), COST_DECIMALS)
    return TreeTotal(token_usage=usage.as_json(), cost_usd=cost, executions=sums["executions"])
