"""The updates of a budget, each one atomic: they first start a new period that is due and drop expired reservations.

Time is the database's (`$$NOW`), so the clocks of processes do not matter; MongoDB finds the bounds of days and months
in the budget's time zone, daylight saving included. A period never starts again if the clock goes back.
"""

from datetime import datetime
from typing import Any

from app.database.connection import Raw
from app.database.expressions import array_in, number_in
from app.models.budget import BudgetPeriod
from app.services.usage.budgets.amounts import Amount, stored_units

NOW = "$$NOW"
Now = str | datetime
"""The time of an update: the database's, or a test's."""
TOTAL = BudgetPeriod.TOTAL.value
LIMIT_FIELDS = dict.fromkeys(("scope", "maxTokens", "maxCost", "period", "timezone", "alertAt"), 1)
"""The fields of a budget that people set."""


def opened(now: Now) -> list[Raw]:
    """Return the stages that start the period that is due and drop expired reservations."""
    due = {"$and": [{"$ne": ["$period", TOTAL]}, {"$gte": [now, {"$ifNull": ["$resetsAt", now]}]}]}
    start = period_start(now, "$period", "$timezone")
    live = {"$filter": {"input": array_in("$reservations"), "cond": {"$gt": ["$$this.until", now]}}}
    return [
        {
            "$set": {
                "reservations": live,
                "usedTokens": {"$cond": [due, 0, number_in("$usedTokens")]},
                "usedCost": {"$cond": [due, stored_units(0), number_in("$usedCost")]},
                "usedUnpriced": {"$cond": [due, False, {"$ifNull": ["$usedUnpriced", False]}]},
                "alertedBy": {"$cond": [due, None, "$alertedBy"]},
                "periodStart": {"$cond": [due, start, "$periodStart"]},
                "resetsAt": {"$cond": [due, period_end(start, "$period", "$timezone"), "$resetsAt"]},
            }
        }
    ]


def period_start(now: Now, period: Any, timezone: Any) -> Raw:  # noqa: ANN401 - any expression
    """Return the start of the period that a time belongs to; that of `total` is the time itself."""
    bounds = [{"case": {"$eq": [period, unit]}, "then": truncated(now, unit, timezone)} for unit in ("day", "month")]
    return {"$switch": {"branches": bounds, "default": now}}


def period_end(start: Any, period: Any, timezone: Any) -> Raw:  # noqa: ANN401 - any expression
    """Return the end of the period with this start; `total` has none.

    A calendar step is taken from the middle of the first day and cut again: a day can lack its midnight.
    """

    def end(unit: str) -> Raw:
        noon = {"$dateAdd": {"startDate": start, "unit": "hour", "amount": 12}}
        later = {"$dateAdd": {"startDate": noon, "unit": unit, "amount": 1, "timezone": timezone}}
        return {"case": {"$eq": [period, unit]}, "then": truncated(later, unit, timezone)}

    return {"$switch": {"branches": [end("day"), end("month")], "default": None}}


def truncated(moment: Any, unit: str, timezone: Any) -> Raw:  # noqa: ANN401 - any expression
    """Return the start of the day or month of a time."""
    return {"$dateTrunc": {"date": moment, "unit": unit, "timezone": timezone}}


RESERVED_TOKENS: Raw = {"$sum": "$reservations.tokens"}
RESERVED_COST: Raw = {"$sum": "$reservations.cost"}


def reserving(reservation_id: str, root_id: str, worst: Amount, seconds: float, now: Now = NOW) -> list[Raw]:
    """Add a reservation if used, reserved and `worst` together exceed no limit."""
    entry = {
        "id": reservation_id,
        "root": root_id,
        "tokens": worst.tokens,
        "cost": None if worst.cost is None else stored_units(worst.cost),
        "until": {"$add": [now, round(seconds * 1000)]},
    }
    tokens_fit = {"$lte": [{"$add": ["$usedTokens", RESERVED_TOKENS, worst.tokens]}, "$maxTokens"]}
    cost_fits: Any = False
    if worst.cost is not None:
        cost_fits = {"$lte": [{"$add": ["$usedCost", RESERVED_COST, stored_units(worst.cost)]}, "$maxCost"]}
    fits = {"$and": [{"$or": [unset("$maxTokens"), tokens_fit]}, {"$or": [unset("$maxCost"), cost_fits]}]}
    added = {"$concatArrays": ["$reservations", [entry]]}
    return [*opened(now), {"$set": {"reservations": {"$cond": [fits, added, "$reservations"]}}}]


def unset(field: str) -> Raw:
    """Return whether a limit is not set."""
    return {"$not": [{"$isNumber": field}]}


def settling(reservation_id: str, real: Amount, now: Now = NOW) -> list[Raw]:
    """Replace a reservation with the actual usage; without the reservation, nothing is booked.

    An expired reservation that no other update has dropped still counts. `alertedBy` becomes the reservation if this
    settlement reaches `alertAt` as the first one of the period.
    """
    mine = {"$in": [reservation_id, {"$ifNull": ["$reservations.id", []]}]}
    others = {"$filter": {"input": "$reservations", "cond": {"$ne": ["$$this.id", reservation_id]}}}
    cost = stored_units(real.cost or 0)
    shares = [
        {"$cond": [unset(limit), 0, {"$divide": [{"$toDecimal": used}, {"$toDecimal": limit}]}]}
        for used, limit in (("$usedTokens", "$maxTokens"), ("$usedCost", "$maxCost"))
    ]
    books_something = bool(real.tokens or real.cost)
    reaches = {"$and": ["$mine", books_something, {"$gte": [{"$max": shares}, {"$toDecimal": "$alertAt"}]}]}
    is_first = {"$eq": [{"$ifNull": ["$alertedBy", None]}, None]}
    return [
        {"$set": {"mine": mine}},
        *opened(now),
        {
            "$set": {
                "reservations": others,
                "usedTokens": {"$add": ["$usedTokens", {"$cond": ["$mine", real.tokens, 0]}]},
                "usedCost": {"$add": ["$usedCost", {"$cond": ["$mine", cost, 0]}]},
                "usedUnpriced": {"$or": ["$usedUnpriced", {"$and": ["$mine", real.cost is None]}]},
            }
        },
        {"$set": {"alertedBy": {"$cond": [{"$and": [reaches, is_first]}, reservation_id, "$alertedBy"]}}},
        {"$unset": "mine"},
    ]


def releasing(key: str, value: str, now: Now = NOW) -> list[Raw]:
    """Drop the reservations with this `id` or of this `root`; nothing is booked."""
    others = {"$filter": {"input": "$reservations", "cond": {"$ne": [f"$$this.{key}", value]}}}
    return [*opened(now), {"$set": {"reservations": others}}]


def putting(limits: Raw, now: Now = NOW) -> list[Raw]:
    """Set the limits of a scope, whose budget may be new.

    Usage is kept unless the period changes: then the count and the alert start over. Another time zone
    changes only the end of the current period.
    """
    is_new = {"$ne": [{"$type": "$periodStart"}, "date"]}
    restarts = {"$or": [is_new, {"$ne": ["$period", limits["period"]]}]}
    moves = {"$or": [restarts, {"$ne": ["$timezone", limits["timezone"]]}]}
    start = period_start(now, limits["period"], limits["timezone"])
    return [
        *opened(now),
        {"$set": {"restarts": restarts, "moves": moves, "created": {"$ifNull": ["$createdAt", now]}}},
        {
            "$set": {
                **{name: {"$literal": value} for name, value in limits.items()},
                "usedTokens": {"$cond": ["$restarts", 0, "$usedTokens"]},
                "usedCost": {"$cond": ["$restarts", stored_units(0), "$usedCost"]},
                "usedUnpriced": {"$and": [{"$not": ["$restarts"]}, "$usedUnpriced"]},
                "alertedBy": {"$cond": ["$restarts", None, "$alertedBy"]},
                "periodStart": {"$cond": ["$moves", start, "$periodStart"]},
                "resetsAt": {"$cond": ["$moves", period_end(start, limits["period"], limits["timezone"]), "$resetsAt"]},
                "createdAt": "$created",
                "updatedAt": now,
            }
        },
        {"$unset": ["restarts", "moves", "created"]},
    ]


def as_now(now: Now = NOW) -> Raw:
    """Return the projection that reads a budget as it stands now: the same rules without a write."""
    first = opened(now)[0]["$set"]
    live = first["reservations"]
    return {
        **LIMIT_FIELDS,
        **{name: first[name] for name in ("usedTokens", "usedCost", "usedUnpriced", "resetsAt")},
        "reservedTokens": {"$sum": {"$map": {"input": live, "in": "$$this.tokens"}}},
        "reservedCost": {"$sum": {"$map": {"input": live, "in": "$$this.cost"}}},
        "now": now,
    }
