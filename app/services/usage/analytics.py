"""Tokens, cost and cache savings of model calls, from the roll-ups."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from beanie import Document
from bson import ObjectId

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.kit.described_enums import DescribedEnum
from app.kit.json_values import JsonObject
from app.kit.schemas import ApiModel
from app.kit.times import utc_now
from app.models.api_key import ApiKey
from app.models.usage_bucket import SCOPES
from app.services.usage.ledger_counts import UNITS_PER_USD, Counts, add_to, name_of
from app.services.usage.periods import periods_between
from app.services.usage.rollups import DETAILS, document_for, view_for

BOOTSTRAP_KEY = "bootstrap"
"""The id of the key in ADMIN_API_KEY, which is not stored."""
HOUR_LENGTH, DAY_LENGTH = len("2026-01-31T05"), len("2026-01-31")


class UsageGrouping(DescribedEnum):
    """The dimension by which usage is grouped."""

    DAY = "day"
    """By the UTC day in which the calls started."""
    DEPARTMENT = "department"
    """By the department's slug."""
    AGENT = "agent"
    """By the agent's id."""
    MODEL = "model"
    """By the model's name in the catalog."""
    PURPOSE = "purpose"
    """By the purpose of the calls, such as work, judging or reviewing."""
    PROJECT = "project"
    """By the id of the CMS project."""
    API_KEY = "apiKey"
    """By the id of the API key that started the run."""
    TAG = "tag"
    """By the tags of the runs. A call of a run with two tags is in two groups; one without tags is in none."""


PARTS = {UsageGrouping.MODEL: "models", UsageGrouping.PURPOSE: "purposes"}
"""The groupings by a part of each bucket, and the field that holds the parts."""


class UsageGroup(ApiModel):
    """The usage of one day, department, agent, model, purpose, project, API key or tag."""

    key: str | None
    """The day as `YYYY-MM-DD`, the slug, id or name by which the usage is grouped; `null` for calls without one."""
    label: str | None = None
    """For `groupBy=apiKey`, the key's name; `null` for a revoked key and every other grouping."""
    executions: int
    """The number of executions with a call in the group. Grouped by day, an execution counts on each day on which it
    made its first call of that day; otherwise in the range that holds its first call."""
    calls: int
    """The number of successful model calls, including those that the response cache answered."""
    failed_calls: int
    """The number of model calls that failed."""
    cached_calls: int
    """The number of calls that the response cache answered."""
    input_tokens: int
    """The billed input tokens, including those that the provider read from its cache."""
    output_tokens: int
    """The billed output tokens."""
    total_tokens: int
    """The sum of `inputTokens` and `outputTokens`."""
    saved_tokens: int
    """The tokens that the response cache saved."""
    cost_usd: float | None
    """The cost of the calls with a known price, in USD; `null` without such calls."""
    unpriced_calls: int
    """The number of calls whose model has no known price; `costUsd` does not include them."""


class UsageAnalytics(ApiModel):
    """Tokens and cost of the model calls that match the filters."""

    total_tokens: int
    """The billed tokens, input and output."""
    average_per_execution: float | None
    """`totalTokens` divided by the number of executions (not of run trees); `null` without executions."""
    cost_estimate: float | None
    """The cost of all calls with a known price, in USD; `null` without such calls."""
    executions: int
    """The number of executions whose first model call is in the range."""
    calls: int
    """The number of successful model calls."""
    failed_calls: int
    """The number of model calls that failed."""
    cached_calls: int
    """The number of calls that the response cache answered."""
    unpriced_calls: int
    """The number of calls whose model has no known price; `costEstimate` does not include them."""
    by_department: dict[str, int]
    """The billed tokens of each department, by its slug. Calls outside any department are only in `totalTokens`."""
    groups: list[UsageGroup]
    """The usage by `groupBy`, in the order of the keys, without groups that made no calls; empty without `groupBy`."""


class CacheAnalytics(ApiModel):
    """How much the response cache saved."""

    hits: int
    """The number of calls that the cache answered."""
    misses: int
    """The number of calls for which the cache had no answer. Calls that bypass the cache are not counted."""
    hit_rate: float | None
    """`hits` divided by `hits` and `misses`, 0 to 1; `null` without either."""
    saved_tokens: int
    """The tokens of the answers that came from the cache, input and output."""
    saved_cost_usd: float | None
    """The cost that those answers would have had, in USD, if the price is known; `null` without such answers."""


@dataclass(frozen=True)
class UsageFilter:
    """Which model calls to count; `start` and `end` are full hours of UTC, the end is not included.

    `allowed_projects` are those that the caller may see, `None` for all.
    """

    project: str | None = None
    department: str | None = None
    agent: str | None = None
    api_key: str | None = None
    tag: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    allowed_projects: frozenset[str] | None = None

    def dimensions(self) -> JsonObject:
        """Return the condition on each dimension by its stored name."""
        wanted = {"department": self.department, "agent": self.agent, "apiKey": self.api_key}
        conditions: JsonObject = {name: value for name, value in wanted.items() if value is not None}
        project = self.project.lower() if self.project is not None else None
        if self.allowed_projects is not None:
            allowed = self.allowed_projects & {project} if project is not None else self.allowed_projects
            conditions["project"] = {"$in": sorted(allowed)}
        elif project is not None:
            conditions["project"] = project
        return conditions


USAGE = frozenset({"executions", "calls", "failed", "cached", "input", "output", "saved", "cost", "priced", "unpriced"})
CACHE = frozenset({"cached", "misses", "saved", "savedCost", "savedPriced"})


@dataclass(frozen=True)
class UsageQueries:
    """Reads usage from the roll-ups."""

    database: Database

    async def read(self, wanted: UsageFilter, grouping: UsageGrouping | None) -> UsageAnalytics:
        """Return the usage that matches a filter, in total and by a grouping."""
        groupings = {UsageGrouping.DEPARTMENT, *([grouping] if grouping else [])}
        sums = dict(
            zip(groupings, await asyncio.gather(*(self._sums(wanted, one, USAGE) for one in groupings)), strict=True)
        )
        departments = sums[UsageGrouping.DEPARTMENT]
        total = total_of(departments.values())
        executions = total.get("executions", 0)
        return UsageAnalytics(
            total_tokens=tokens_of(total),
            average_per_execution=tokens_of(total) / executions if executions else None,
            cost_estimate=usd(total, "cost", "priced"),
            executions=executions,
            calls=total.get("calls", 0),
            failed_calls=total.get("failed", 0),
            cached_calls=total.get("cached", 0),
            unpriced_calls=total.get("unpriced", 0),
            by_department={slug: tokens_of(departments[slug]) for slug in sorted(filter(None, departments))},
            groups=await self._groups(sums[grouping], grouping) if grouping else [],
        )

    async def read_cache(self, wanted: UsageFilter) -> CacheAnalytics:
        """Return the savings of the response cache on the calls that match a filter."""
        total = total_of((await self._sums(wanted, UsageGrouping.DEPARTMENT, CACHE)).values())
        hits, misses = total.get("cached", 0), total.get("misses", 0)
        return CacheAnalytics(
            hits=hits,
            misses=misses,
            hit_rate=round(hits / (hits + misses), 4) if hits + misses else None,
            saved_tokens=total.get("saved", 0),
            saved_cost_usd=usd(total, "savedCost", "savedPriced"),
        )

    async def _groups(self, sums: dict[str | None, Counts], grouping: UsageGrouping) -> list[UsageGroup]:
        """Shape the groups that made calls, in order; the group without a key comes last."""
        made = {key: counts for key, counts in sums.items() if counts.get("calls") or counts.get("failed")}
        labels = await self._key_names(made) if grouping is UsageGrouping.API_KEY else {}
        return [group_of(key, labels.get(key), made[key]) for key in sorted(made, key=lambda key: (key is None, key))]

    async def _key_names(self, keys: Iterable[str | None]) -> dict[str | None, str]:
        """Return the names of API keys that still exist, by id."""
        ids = [ObjectId(key) for key in keys if ObjectId.is_valid(key or "")]
        found = collection_of(self.database, ApiKey).find({"_id": {"$in": ids}}, {"name": 1})
        names = {str(raw["_id"]): raw["name"] async for raw in found if isinstance(raw.get("name"), str)}
        return {BOOTSTRAP_KEY: "ADMIN_API_KEY", **names}

    async def _sums(
        self, wanted: UsageFilter, grouping: UsageGrouping, counters: frozenset[str]
    ) -> dict[str | None, Counts]:
        """Add up the counters of each group, from the coarsest views that separate what the query needs."""
        periods = periods_between(wanted.start, wanted.end, utc_now(), months=grouping is not UsageGrouping.DAY)
        hours = [period for period in periods if len(period) == HOUR_LENGTH]
        longer = [period for period in periods if len(period) < HOUR_LENGTH]
        conditions = wanted.dimensions()
        if wanted.allowed_projects is not None and not conditions["project"]["$in"]:
            return {}
        is_dimension = grouping.value in DETAILS.fields
        fields = frozenset(conditions) | (frozenset({grouping.value}) if is_dimension else frozenset())
        sums: dict[str | None, Counts] = {}
        for chosen in filter(None, (longer, hours)):
            view = view_for(fields, by_part=grouping in PARTS, by_hour=chosen is hours)
            document = document_for(view, chosen[0])
            selector = {"view": view.name, "period": {"$in": chosen}, "tag": tag_condition(wanted, grouping)}
            for raw in await self._aggregate(document, selector | conditions, grouping, counters):
                key = raw.pop("_id")
                add_to(sums.setdefault(name_of(key) if grouping in PARTS else key, {}), raw)
        return sums

    async def _aggregate(
        self, document: type[Document], selector: JsonObject, grouping: UsageGrouping, counters: frozenset[str]
    ) -> list[Raw]:
        pipeline: list[JsonObject] = [{"$match": selector}]
        place, key = "totals", f"${grouping.value}"
        if part := PARTS.get(grouping):
            pipeline += [{"$project": {"part": {"$objectToArray": f"${part}"}}}, {"$unwind": "$part"}]
            place, key = "part.v", "$part.k"
        stored = {name: name for name in counters}
        if grouping is UsageGrouping.DAY:
            key = {"$substrBytes": ["$period", 0, DAY_LENGTH]}
            stored["executions"] = "dayExecutions"
        sums = {name: {"$sum": f"${place}.{source}"} for name, source in stored.items()}
        pipeline.append({"$group": {"_id": key, **sums}})
        scope = next((f"usage_{name}" for name in SCOPES if name in selector), "usage_period")
        return await (await collection_of(self.database, document).aggregate(pipeline, hint=scope)).to_list()


def tag_condition(wanted: UsageFilter, grouping: UsageGrouping) -> object:
    """Return the condition on the tag: the wanted one, each of them, or the sums of all executions."""
    if wanted.tag is None and grouping is UsageGrouping.TAG:
        return {"$gt": ""}
    return wanted.tag


def group_of(key: str | None, label: str | None, counts: Counts) -> UsageGroup:
    """Shape a group."""
    return UsageGroup(
        key=key,
        label=label,
        executions=counts.get("executions", 0),
        calls=counts.get("calls", 0),
        failed_calls=counts.get("failed", 0),
        cached_calls=counts.get("cached", 0),
        input_tokens=counts.get("input", 0),
        output_tokens=counts.get("output", 0),
        total_tokens=tokens_of(counts),
        saved_tokens=counts.get("saved", 0),
        cost_usd=usd(counts, "cost", "priced"),
        unpriced_calls=counts.get("unpriced", 0),
    )


def total_of(groups: Iterable[Counts]) -> Counts:
    """Return the sum of some groups."""
    total: Counts = {}
    for counts in groups:
        add_to(total, counts)
    return total


def tokens_of(counts: Counts) -> int:
    """Return the billed tokens."""
    return counts.get("input", 0) + counts.get("output", 0)


def usd(counts: Counts, amount: str, calls: str) -> float | None:
    """Return an amount in USD; `None` if no call has one."""
    return counts.get(amount, 0) / UNITS_PER_USD if counts.get(calls) else None
