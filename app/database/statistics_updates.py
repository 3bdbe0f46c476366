"""Updates of the statistics of agents, departments and tools, and of the sums that they are computed from.

The sums are top-level fields of the service, which Payload does not change when it saves a document.
"""

from datetime import datetime

from app.database.expressions import number_in
from app.kit.json_values import JsonObject

STATISTICS_FIELDS = frozenset(
    {
        "totalExecutions",
        "averageExecutionTime",
        "successRate",
        "lastExecutedAt",
        "lastUsedAt",
        "countedExecutions",
        "countedSuccesses",
        "countedMilliseconds",
    }
)
"""Fields that change with every run; changing only these does not edit the definition."""


def counting_update(
    executions: int,
    finished: int,
    milliseconds: float,
    successes: int | None = None,
    last_completed_at: datetime | None = None,
) -> list[JsonObject]:
    """Return an update pipeline that counts ended executions.

    Means and rates cover the executions that `finished`, without cancelled ones. With `successes`, the document also
    has a success rate and the time when its last run ended (agents do, departments do not).
    """
    sums = {
        "totalExecutions": plus("totalExecutions", executions),
        "countedExecutions": plus("countedExecutions", finished),
        "countedMilliseconds": plus("countedMilliseconds", milliseconds),
    }
    means: JsonObject = {
        "averageExecutionTime": {"$round": [{"$divide": ["$countedMilliseconds", "$countedExecutions"]}, 1]},
    }
    last: JsonObject = {}
    if successes is not None:
        sums["countedSuccesses"] = plus("countedSuccesses", successes)
        share = {"$divide": ["$countedSuccesses", "$countedExecutions"]}
        means |= {"successRate": {"$round": [{"$multiply": [100, share]}, 2]}}
        last = {"lastExecutedAt": {"$max": ["$lastExecutedAt", last_completed_at]}} if last_completed_at else {}
    return [{"$set": sums | last}, *([{"$set": means}] if finished else [])]


def plus(field: str, amount: float) -> JsonObject:
    """Return an expression that adds an amount to a field; an unset or invalid field counts as 0."""
    return {"$add": [number_in(f"${field}"), amount]}
