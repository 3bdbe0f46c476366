"""Periods cover a range of hours exactly, with as few documents as there can be."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.usage.periods import periods_between

NOW = datetime(2026, 11, 28, 10, 20, tzinfo=UTC)
HOURS = st.integers(0, 24 * 80).map(lambda hours: datetime(2025, 12, 30, tzinfo=UTC) + timedelta(hours=hours))


def hours_in(period: str) -> list[str]:
    """All hours of a period."""
    if len(period) == 13:
        return [period]
    start = datetime.fromisoformat(period if len(period) == 10 else f"{period}-01").replace(tzinfo=UTC)
    hours = (start + timedelta(hours=place) for place in itertools.count())
    return list(itertools.takewhile(lambda hour: hour.startswith(period), (f"{hour:%Y-%m-%dT%H}" for hour in hours)))


@settings(deadline=None)
@given(HOURS, HOURS, st.booleans())
def test_periods_hold_every_hour_of_a_range_once(one: datetime, other: datetime, months: bool) -> None:
    start, end = sorted((one, other))

    periods = periods_between(start, end, NOW, months=months)

    wanted = [start + timedelta(hours=place) for place in range((end - start) // timedelta(hours=1))]
    assert [hour for period in periods for hour in hours_in(period)] == [f"{hour:%Y-%m-%dT%H}" for hour in wanted]
    assert sum(len(period) == 13 for period in periods) <= 46


@pytest.mark.parametrize(
    ("start", "end", "periods"),
    [
        ("2026-01-31", "2026-02-01", ["2026-01-31"]),
        ("2026-01-30T23", "2026-02-01T01", ["2026-01-30T23", "2026-01-31", "2026-02-01T00"]),
        ("2026-01-01", "2026-03-01", ["2026-01", "2026-02"]),
        ("2026-02-28", "2026-04-02", ["2026-02-28", "2026-03", "2026-04-01"]),
        ("2028-02-29", "2028-03-01", []),
        ("2025-12-31T23", "2026-01-01T01", ["2025-12-31T23", "2026-01-01T00"]),
    ],
)
def test_ranges_over_the_ends_of_months(start: str, end: str, periods: list[str]) -> None:
    first, last = (datetime.fromisoformat(bound).replace(tzinfo=UTC) for bound in (start, end))

    assert periods_between(first, last, NOW, months=True) == periods


def test_an_open_range_reaches_the_calls_of_fast_clocks() -> None:
    periods = periods_between(None, None, NOW, months=True)

    assert (periods[0], periods[-1]) == ("2025-01", "2026-12")


def test_a_far_range_stays_short() -> None:
    past, future = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)

    assert periods_between(past, future, NOW, months=True) == periods_between(None, None, NOW, months=True)
    assert periods_between(future, None, NOW, months=True) == []
