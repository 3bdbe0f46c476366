"""Roll-ups of the ledger: each model call is counted once in every bucket that it belongs to.

The mark of an end holds the counts of its new calls by hour. A batch of marks is added up first, and then updates each
bucket once. Queries read months, days and hours of the coarsest view that separates what they ask for, so their time
depends on the number of agents, projects and keys, not on that of executions.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

import structlog
from beanie import Document
from bson import Binary, Int64
from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.connection import Database, Raw
from app.events.outbox import ExecutionEnd, field_of, mark_of
from app.kit.json_values import JsonObject
from app.models.usage_bucket import UsageBucket, UsageDetail, UsageHour
from app.services.usage.ledger_counts import Counts, Dimensions, HourUsage, add_to, usage_by_hour

ID_BYTES = 16
EXECUTIONS_A_STEP, UPDATES_A_STEP = 10, 200
"""The work that a batch does before it yields to the event loop: a few milliseconds."""
DAY, MONTH = len("2026-01-31"), len("2026-01")
"""The lengths of a day and a month within an hour such as `2026-01-31T05`."""

Item = TypeVar("Item")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, eq=False)
class View:
    """Dimensions that buckets separate; `has_parts` if they also hold the counts by model and purpose.

    Pairs have no hours, because an hour has about as many pairs as combinations of all dimensions.
    """

    name: str
    fields: frozenset[str]
    has_parts: bool = True
    has_hours: bool = True
    document: type[Document] = UsageBucket


SUMMARIES = (
    View("department", frozenset({"department"})),
    View("agent", frozenset({"department", "agent"})),
    View("apiKey-total", frozenset({"apiKey"}), has_parts=False),
    View("project-total", frozenset({"project"}), has_parts=False),
    View("apiKey", frozenset({"department", "apiKey"})),
    View("project", frozenset({"department", "project"})),
    View("agent-apiKey", frozenset({"department", "agent", "apiKey"}), has_parts=False, has_hours=False),
    View("project-apiKey", frozenset({"project", "apiKey"}), has_parts=False, has_hours=False),
    View("project-agent", frozenset({"department", "project", "agent"}), has_parts=False, has_hours=False),
)
"""The coarse views, those with the fewest buckets first."""
DETAILS = View("all", frozenset({"department", "agent", "project", "apiKey"}), document=UsageDetail)
"""The view that separates everything."""


def view_for(fields: frozenset[str], *, by_part: bool, by_hour: bool) -> View:
    """Return the coarsest view that separates some fields, with models and purposes and with hours if needed."""
    for view in SUMMARIES:
        if fields <= view.fields and (view.has_parts or not by_part) and (view.has_hours or not by_hour):
            return view
    return DETAILS


def document_for(view: View, period: str) -> type[Document]:
    """Return the document class, and so the collection, of a view's buckets of an hour, day or month."""
    return UsageHour if len(period) > DAY else view.document


@dataclass(frozen=True)
class BucketKey:
    """The dimensions of a bucket; those that its view does not separate are `None`."""

    view: View
    period: str
    tag: str | None
    origin: Dimensions

    def stored(self) -> JsonObject:
        """Return the stored fields of the dimensions."""
        values = dict(zip(("department", "agent", "project", "apiKey"), self.origin, strict=True))
        separated = {name: value for name, value in values.items() if name in self.view.fields}
        return {"view": self.view.name, "period": self.period, "tag": self.tag, **separated}

    def identity(self) -> Binary:
        """Return the `_id`, which follows from the dimensions, so that every process updates the same bucket."""
        text = json.dumps([self.view.name, self.period, self.tag, *self.origin])
        return Binary(blake2b(text.encode(), digest_size=ID_BYTES).digest())


@dataclass
class Buckets:
    """Sums for buckets, by the dotted name of each counter in the stored document."""

    sums: dict[BucketKey, Counts] = field(default_factory=dict[BucketKey, Counts])

    def add(self, marks: Iterable[tuple[HourUsage, Sequence[str]]]) -> None:
        """Add the usage of hours, each with the tags of its execution."""
        finest: dict[tuple[str, str | None, Dimensions], Counts] = {}
        for usage, tags in marks:
            counts = by_stored_name(usage)
            for tag in (None, *dict.fromkeys(tags)):
                add_to(finest.setdefault((usage.hour, tag, usage.origin), {}), counts)
        for (hour, tag, origin), counts in finest.items():
            totals = {name: count for name, count in counts.items() if name.startswith("totals.")}
            for view in (*SUMMARIES, DETAILS):
                within_view = within(view, origin)
                for period in (hour[:MONTH], hour[:DAY], *((hour,) if view.has_hours else ())):
                    sums = self.sums.setdefault(BucketKey(view, period, tag, within_view), {})
                    add_to(sums, counts if view.has_parts else totals)

    def in_order(self) -> list[tuple[BucketKey, Counts]]:
        """Return the sums, those of the most contended buckets first, so that a conflict costs little."""
        return sorted(self.sums.items(), key=lambda item: (len(item[0].period), item[0].view.name))


def update_of(key: BucketKey, counts: Counts) -> UpdateOne:
    """Return the update that adds counts to a bucket."""
    changes: JsonObject = {"$setOnInsert": key.stored()}
    if increments := {name: Int64(count) for name, count in counts.items() if count}:
        changes["$inc"] = increments
    return UpdateOne({"_id": key.identity()}, changes, upsert=True)


def batched(values: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the values in steps, with a chance for the event loop to run other tasks in between."""
    return (values[start : start + size] for start in range(0, len(values), size))


class UsageRollups:
    """The outbox consumer that adds the model calls of ended executions to the buckets."""

    name = "usage"
    field = field_of(name)
    projection: Mapping[str, int] = {"executionId": 1}

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Return the mark of an end: the counts of the calls since the end before."""
        hours = [usage.stored() for usage in usage_by_hour(end.calls, end.counted_calls)]
        return mark_of(self.name, {"tags": list(end.tags), "hours": hours}) if hours else {}

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Add a batch to its buckets."""
        buckets = Buckets()
        for part in batched(batch, EXECUTIONS_A_STEP):
            buckets.add(entry for ended in part for entry in entries_of(ended))
            await asyncio.sleep(0)
        for part in batched(buckets.in_order(), UPDATES_A_STEP):
            updates: dict[str, list[UpdateOne]] = {}
            for key, counts in part:
                updates.setdefault(document_for(key.view, key.period).get_collection_name(), []).append(
                    update_of(key, counts)
                )
            for collection, changes in updates.items():
                await self._database[collection].bulk_write(changes, ordered=False, session=session)


def entries_of(ended: Raw) -> list[tuple[HourUsage, Sequence[str]]]:
    """Return the usage in the marks of an execution; a damaged mark is logged and skipped."""
    marks: Any = ended["outbox"]["usage"]
    found: list[tuple[HourUsage, Sequence[str]]] = []
    for mark in marks.values() if isinstance(marks, dict) else [marks]:
        try:
            tags = [tag for tag in mark["tags"] if isinstance(tag, str) and tag]
            found += [(HourUsage.from_stored(stored), tags) for stored in mark["hours"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("usage-mark-invalid", execution=ended.get("executionId"), error=type(error).__name__)
    return found


def by_stored_name(usage: HourUsage) -> Counts:
    """Return the counters by their dotted names in a bucket."""
    counts = {f"totals.{name}": count for name, count in usage.totals.items()}
    for part, values in (("models", usage.models), ("purposes", usage.purposes)):
        counts |= {f"{part}.{key}.{name}": count for key, one in values.items() for name, count in one.items()}
    return counts


def within(view: View, origin: Dimensions) -> Dimensions:
    """Return the dimensions that a view separates."""
    return Dimensions(
        department=origin.department if "department" in view.fields else None,
        agent=origin.agent if "agent" in view.fields else None,
        project=origin.project if "project" in view.fields else None,
        api_key=origin.api_key if "apiKey" in view.fields else None,
    )
