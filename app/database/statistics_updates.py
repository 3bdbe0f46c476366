"""The statistics that runs keep on agents, departments and tools, beside the sums that they are calculated from.

The sums are top-level fields of our own, which a Payload save leaves as they are.
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
"""Fields that change with every run: a change of these alone is no edit of the definition."""


def counting_update(
    executions: int,
    finished: int,
    milliseconds: float,
    successes: int | None = None,
    last_completed_at: datetime | None = None,
) -> list[JsonObject]:
    """An update pipeline that counts ended executions; MongoDB applies it to a document as a whole.

    Means and rates are over those that `finished`, cancelled ones left out. Where `successes` is given, the document
    keeps a success rate and the time of its last run's end too (agents do, departments do not).
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
    """A field plus an amount, as an expression; one that is unset, or no number, counts from 0."""
    return {"$add": [number_in(f"${field}"), amount]}
