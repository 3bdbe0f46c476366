"""Counters over rows of the ledger, by the hour in which a call started.

An execution is counted once in every sum, by its first call: the first of all, of a model, of a purpose, of a UTC day.
So sums over hours, models, agents or projects never count an execution twice.

Money is counted in whole picodollars (1e-12 USD), because integers add up exactly in any order, in the database too.
Rounding a row costs at most half a picodollar, and prices per token are multiples of it. A sum of 64 bits holds nine
million dollars for each bucket.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from app.kit.json_values import JsonObject, clean_text
from app.kit.times import iso_milliseconds, utc_now

UNITS_PER_USD = 10**12
MAX_TOKENS, MAX_USD = 10**12, 10**6
"""The maximum that counts for one row: an absurd number from a provider must not overflow the sums."""
HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d(?=:)")
UNKNOWN = "unknown"
FIELD_CHARACTERS = {ord("%"): "%25", ord("."): "%2E", ord("$"): "%24", 0: "%00"}

TOKENS = {
    "input": "inputTokens",
    "output": "outputTokens",
    "cacheRead": "cacheReadTokens",
    "cacheWrite": "cacheWriteTokens",
    "reasoning": "reasoningTokens",
    "saved": "savedTokens",
}
"""The counters of tokens, and the field of a row that each adds up."""

Counts = dict[str, int]
"""Counters by name; those that are 0 are absent.

`calls` (outcome ok), `failed`, `cached`, `misses` (calls that the response cache could not answer), the counters of
`TOKENS`, `cost` and `priced` (the calls in it), `unpriced`, `savedCost` and `savedPriced`, `executions` and
`dayExecutions` (first calls of a UTC day).
"""


class Dimensions(NamedTuple):
    """The origin of a call; `None` where it is unknown."""

    department: str | None
    agent: str | None
    project: str | None
    api_key: str | None


@dataclass
class HourUsage:
    """The counts of one origin in one hour, also by model and purpose."""

    hour: str
    origin: Dimensions
    totals: Counts = field(default_factory=dict[str, int])
    models: dict[str, Counts] = field(default_factory=dict[str, Counts])
    purposes: dict[str, Counts] = field(default_factory=dict[str, Counts])

    def stored(self) -> JsonObject:
        """Return the stored form."""
        origin = {"department": self.origin.department, "agent": self.origin.agent}
        scope = {"project": self.origin.project, "apiKey": self.origin.api_key}
        counts = {"totals": self.totals, "models": self.models, "purposes": self.purposes}
        return {"hour": self.hour, **origin, **scope, **counts}

    @classmethod
    def from_stored(cls, stored: Any) -> "HourUsage":  # noqa: ANN401 - any stored value
        """Read the stored form.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the stored value is damaged.
        """
        if not HOUR.match(f"{stored['hour']}:"):
            raise ValueError("the hour is malformed")
        return cls(
            hour=stored["hour"],
            origin=Dimensions(*(text_in(stored, name) for name in ("department", "agent", "project", "apiKey"))),
            totals=whole_numbers(stored["totals"]),
            models={name: whole_numbers(counts) for name, counts in stored["models"].items()},
            purposes={name: whole_numbers(counts) for name, counts in stored["purposes"].items()},
        )


def usage_by_hour(rows: Sequence[JsonObject], counted: int) -> list[HourUsage]:
    """Count the rows of an execution after the first `counted`, which an earlier end has counted.

    Damaged values count as 0, or under the current hour: the end of an execution must not fail because of them.
    """
    found: dict[tuple[str, Dimensions], HourUsage] = {}
    seen: set[tuple[str, str]] = set()
    for place, row in enumerate(rows):
        hour = hour_of(row)
        model, purpose = field_name(row.get("model")), field_name(row.get("purpose"))
        firsts = {("all", ""), ("day", hour[:10]), ("model", model), ("purpose", purpose)} - seen
        seen |= firsts
        if place < counted:
            continue
        origin = Dimensions(*(text_in(row, name) for name in ("department", "agent", "project", "apiKey")))
        usage = found.setdefault((hour, origin), HourUsage(hour, origin))
        counts = counts_of(row)
        add_to(usage.totals, counts)
        if ("all", "") in firsts:
            add_to(usage.totals, {"executions": 1})
        if ("day", hour[:10]) in firsts:
            add_to(usage.totals, {"dayExecutions": 1})
        is_first_of_model, is_first_of_purpose = ("model", model) in firsts, ("purpose", purpose) in firsts
        add_to(usage.models.setdefault(model, {}), counts | ({"executions": 1} if is_first_of_model else {}))
        add_to(usage.purposes.setdefault(purpose, {}), counts | ({"executions": 1} if is_first_of_purpose else {}))
    return list(found.values())


def counts_of(row: JsonObject) -> Counts:
    """Return the counters of one row."""
    counts: Counts = {"calls" if row.get("outcome") != "error" else "failed": 1}
    counts |= {name: tokens for name, key in TOKENS.items() if (tokens := whole_number(row.get(key)))}
    if row.get("cached") is True:
        counts["cached"] = 1
    if row.get("cacheStatus") == "miss":
        counts["misses"] = 1
    cost, saved_cost = units_of(row.get("costUsd")), units_of(row.get("savedCostUsd"))
    if row.get("priceStatus") == "unpriced":
        counts["unpriced"] = 1
    elif cost is not None:
        counts |= {"priced": 1, **({"cost": cost} if cost else {})}
    if row.get("cached") is True and saved_cost is not None:
        counts |= {"savedPriced": 1, **({"savedCost": saved_cost} if saved_cost else {})}
    return counts


def add_to(sums: Counts, counts: Counts) -> None:
    """Add counters to sums."""
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count


def hour_of(row: JsonObject) -> str:
    """Return the hour in which a call started, in the form of a bucket's period."""
    found = HOUR.match(str(row.get("startedAt")))
    return found.group() if found else iso_milliseconds(utc_now())[:13]


def field_name(name: object) -> str:
    """Return the name of a model or purpose in the form of a stored field's name."""
    return clean_text(name).translate(FIELD_CHARACTERS) if isinstance(name, str) and name else UNKNOWN


def name_of(field_name: str) -> str:
    """Return the name behind the name of a stored field."""
    return unquote(field_name)


def units_of(usd: object) -> int | None:
    """Return an amount in picodollars; `None` if the amount is unknown."""
    if isinstance(usd, bool) or not isinstance(usd, int | float) or math.isnan(usd):
        return None
    return round(max(-MAX_USD, min(usd, MAX_USD)) * UNITS_PER_USD)


def whole_number(value: object) -> int:
    """Return a number of tokens; anything else is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return 0
    return int(max(-MAX_TOKENS, min(value, MAX_TOKENS)))


def whole_numbers(stored: Any) -> Counts:  # noqa: ANN401 - any stored value
    """Return stored counters.

    Raises:
        TypeError: one is not a whole number.
    """
    if not all(isinstance(count, int) for count in stored.values()):
        raise TypeError("a counter is not a whole number")
    return dict(stored)


def text_in(values: JsonObject, name: str) -> str | None:
    """Return a text, or `None` if it is missing."""
    value = values.get(name)
    return value if isinstance(value, str) and value else None
