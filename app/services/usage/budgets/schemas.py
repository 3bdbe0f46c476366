"""Budgets in the shape of the API."""

from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.database.connection import Raw
from app.errors import FieldError, InvalidInput
from app.kit.schemas import ApiModel, Text, Timestamp
from app.models.budget import BudgetPeriod
from app.services.usage.budgets.amounts import dollars_of, read_units, stored_units, units_of

MAX_LIMIT = 2**53
"""The largest whole number that every JSON reader keeps exactly."""
LEAST_USD = 1e-12
NO_LIMIT = "set maxTokens, maxCostUsd or both: a budget without a limit limits nothing"


def check_timezone(name: str) -> str:
    """Accept the name of a time zone in the IANA database."""
    try:
        if name != "UTC":  # a machine without the database of time zones still knows this one
            ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError("must be the name of a time zone, such as Europe/Berlin") from None
    return name


class BudgetWrite(BaseModel):
    """The limits of a scope. At least one of `maxTokens` and `maxCostUsd` is required."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        use_attribute_docstrings=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"examples": [{"maxCostUsd": 25.0, "period": "month", "timezone": "Europe/Berlin"}]},
    )

    max_tokens: Annotated[int, Field(ge=1, le=MAX_LIMIT)] | None = None
    """The maximum number of tokens per period, input and output together. Without it, tokens are not limited."""
    max_cost_usd: Annotated[float, Field(ge=LEAST_USD, le=MAX_LIMIT)] | None = None
    """The maximum cost per period in US dollars. Without it, the cost is not limited."""
    period: Annotated[BudgetPeriod, Field(strict=False)]
    """How often the count starts over."""
    timezone: Annotated[Text, Field(min_length=1, max_length=100), AfterValidator(check_timezone)] = "UTC"
    """The time zone of days and months, by its IANA name."""
    alert_at: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The used share of a limit, 0 to 1, at which a `budget-alert` event is sent, once per period."""

    @model_validator(mode="after")
    def has_a_limit(self) -> Self:
        """Require at least one limit."""
        if self.max_tokens is None and self.max_cost_usd is None:
            raise InvalidInput.of_fields([FieldError("maxTokens", NO_LIMIT), FieldError("maxCostUsd", NO_LIMIT)])
        return self

    def as_stored(self) -> Raw:
        """Return the stored fields."""
        return {
            "maxTokens": self.max_tokens,
            "maxCost": None if self.max_cost_usd is None else stored_units(units_of(self.max_cost_usd)),
            "period": self.period.value,
            "timezone": self.timezone,
            "alertAt": float(self.alert_at),
        }


class BudgetRead(ApiModel):
    """The limits of a scope, and their usage in the current period."""

    scope: str
    """The scope: `global`, `project:ID`, `department:SLUG`, `agent:AGENT_ID` or `key:KEY_ID`."""
    max_tokens: int | None
    """The maximum number of tokens per period, input and output together; `null` if tokens are not limited."""
    max_cost_usd: float | None
    """The maximum cost per period in US dollars; `null` if the cost is not limited."""
    period: BudgetPeriod
    """How often the count starts over."""
    timezone: str
    """The time zone of days and months, by its IANA name."""
    alert_at: float
    """The used share of a limit, 0 to 1, at which a `budget-alert` event is sent, once per period."""
    used_tokens: int
    """The tokens of the period's settled calls."""
    reserved_tokens: int
    """The maximum number of tokens that calls in progress may still use."""
    used_cost_usd: float | None
    """The cost of the period's settled calls in US dollars; `null` if the price of one is unknown."""
    reserved_cost_usd: float
    """The maximum cost of calls in progress in US dollars."""
    resets_at: Timestamp | None
    """When the count resets; `null` for `total`."""

    @classmethod
    def of(cls, raw: Raw) -> "BudgetRead":
        """Return the shape of a stored budget as it stands now."""
        limit = raw.get("maxCost")
        return cls(
            scope=raw["scope"],
            max_tokens=raw.get("maxTokens"),
            max_cost_usd=None if limit is None else dollars_of(read_units(limit)),
            period=BudgetPeriod(raw["period"]),
            timezone=raw["timezone"],
            alert_at=raw["alertAt"],
            used_tokens=raw["usedTokens"],
            reserved_tokens=raw["reservedTokens"],
            used_cost_usd=None if raw["usedUnpriced"] else dollars_of(read_units(raw["usedCost"])),
            reserved_cost_usd=dollars_of(read_units(raw["reservedCost"])),
            resets_at=raw.get("resetsAt"),
        )
