"""Amounts that budgets count: whole tokens, and whole trillionths of a US dollar."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from bson.decimal128 import Decimal128

UNITS_A_DOLLAR = 10**12
EXACT = Context(prec=60)
"""Enough digits for every finite cost; the default context would round large ones."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens and a cost in trillionths of a US dollar; the cost is `None` if it is unknown."""

    tokens: int = 0
    cost: int | None = 0

    def __add__(self, other: "Amount") -> "Amount":
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Amount(self.tokens + other.tokens, cost)


NOTHING = Amount()


def units_of(usd: float, *, up: bool = False) -> int:
    """Return the whole units of a cost in US dollars, rounded to the nearest, or `up`."""
    if not math.isfinite(usd):
        raise ValueError("not a finite cost")
    scaled = EXACT.multiply(Decimal(repr(usd)), Decimal(UNITS_A_DOLLAR))
    return int(scaled.to_integral_value(ROUND_CEILING if up else ROUND_HALF_EVEN, EXACT))


def dollars_of(units: int) -> float:
    """Return the cost in US dollars of whole units."""
    return units / UNITS_A_DOLLAR


def stored_units(units: int) -> Decimal128:
    """Units in the form in which they are stored; MongoDB adds up to 34 digits exactly."""
    return Decimal128(str(units))


def read_units(value: Any) -> int:  # noqa: ANN401 - any stored value
    """Return the units in a stored value; one that is not a number counts as 0."""
    if isinstance(value, Decimal128):
        decimal = value.to_decimal()
        return int(decimal) if decimal.is_finite() else 0
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
