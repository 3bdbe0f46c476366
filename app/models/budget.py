"""A budget: the service's own `agent-budgets` collection."""

from datetime import datetime
from typing import Any

from beanie import Document
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, IndexModel

from app.kit.described_enums import DescribedEnum
from app.models.base import stored_name


class BudgetPeriod(DescribedEnum):
    """How often the count of a budget resets."""

    DAY = "day"
    """Every midnight in the budget's time zone."""
    MONTH = "month"
    """On the first of each month, in the budget's time zone."""
    TOTAL = "total"
    """Never."""


class Budget(Document):
    """The limits of a scope, what is used of them in the current period, and what running calls have reserved.

    Costs are whole trillionths of a US dollar, as `Decimal128`, so that sums are exact. A reservation is
    `{id, root, tokens, cost, until}`: it counts until it is settled, released with its run tree, or expired. Only the
    update pipelines of `app.services.usage.budgets` write these documents.
    """

    model_config = ConfigDict(alias_generator=stored_name, populate_by_name=True, extra="ignore")

    scope: str
    max_tokens: int | None = None
    max_cost: Any = None
    period: BudgetPeriod
    timezone: str = "UTC"
    alert_at: float = 0.8
    period_start: datetime
    resets_at: datetime | None = None
    used_tokens: int = 0
    used_cost: Any = None
    used_unpriced: bool = False
    """Whether a call without a known price was booked in this period."""
    reservations: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    alerted_by: str | None = None
    """The reservation whose settlement reached `alertAt` in this period."""

    class Settings:
        """Collection and indexes."""

        name = "agent-budgets"
        keep_nulls = False
        indexes = (IndexModel([("scope", ASCENDING)], name="scope_1", unique=True),)
