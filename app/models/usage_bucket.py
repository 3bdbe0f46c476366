"""Sums of the ledger by hour, day and month: the service's own collections `agent-usage…`."""

from typing import Any

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.models.base import stored_name

SCOPES = ("project", "apiKey", "agent")
"""The fields with an index of their own, for buckets that hold them."""


def bucket_indexes() -> tuple[IndexModel, ...]:
    """Return the indexes of a collection of buckets: by period, and by each of `SCOPES` and period."""
    places = [(name, ASCENDING) for name in ("view", "period", "tag")]
    scoped = (
        IndexModel([(scope, ASCENDING), *places], name=f"usage_{scope}", partialFilterExpression={scope: {"$gt": ""}})
        for scope in SCOPES
    )
    return (IndexModel(places, name="usage_period"), *scoped)


class UsageBucket(Document):
    """The sums of one period under one view, which names the dimensions that the bucket separates.

    `period` is a month (`2026-01`), a day (`2026-01-31`) or an hour (`2026-01-31T05`) in UTC. `tag` is `null` in the
    sums of all executions; each tag has buckets of its own. A dimension that the view does not separate is absent.
    `models` and `purposes` hold the same counters by model and purpose, under names that a field can have.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    id: bytes = b""  # pyright: ignore[reportIncompatibleVariableOverride] - derived from the dimensions
    view: str
    period: str
    tag: str | None = None
    department: str | None = None
    agent: str | None = None
    project: str | None = None
    api_key: str | None = None
    totals: dict[str, int] = Field(default_factory=dict[str, int])
    models: dict[str, Any] = Field(default_factory=dict[str, Any])
    purposes: dict[str, Any] = Field(default_factory=dict[str, Any])

    class Settings:
        """Collection and indexes."""

        name = "agent-usage"
        indexes = bucket_indexes()


class UsageDetail(UsageBucket):
    """A day or month of the finest view, which in the worst case has one bucket per execution.

    They have a collection of their own, so that the few coarse ones stay together in the database's cache.
    """

    class Settings(UsageBucket.Settings):
        """Collection and indexes."""

        name = "agent-usage-details"
        indexes = bucket_indexes()


class UsageHour(UsageBucket):
    """An hour, for ranges that begin or end within a day."""

    class Settings(UsageBucket.Settings):
        """Collection and indexes."""

        name = "agent-usage-hours"
        indexes = bucket_indexes()
