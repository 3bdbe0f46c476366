"""Time as the roll-ups divide it: months, days and hours in UTC."""

from datetime import UTC, datetime, timedelta

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
"""No call in the ledger is older."""
AHEAD = timedelta(days=31)
"""How far the clocks of other processes may be ahead."""


def periods_between(start: datetime | None, end: datetime | None, now: datetime, *, months: bool) -> list[str]:
    """Return the fewest periods that cover the time between two full hours, excluding the second.

    Without `months`, days are the largest: a query by day needs each of them.
    """
    at = max(start or FIRST, FIRST)
    last = next_month(start_of_month(now + AHEAD))
    until = min(end or last, last)
    periods: list[str] = []
    while at < until:
        if months and is_start_of_month(at) and (following := next_month(at)) <= until:
            periods.append(f"{at:%Y-%m}")
            at = following
        elif at.hour == 0 and at + DAY <= until:
            periods.append(f"{at:%Y-%m-%d}")
            at += DAY
        else:
            periods.append(f"{at:%Y-%m-%dT%H}")
            at += HOUR
    return periods


def is_full_hour(moment: datetime) -> bool:
    """Return whether a moment is at the start of an hour of UTC."""
    return moment.astimezone(UTC) == moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def start_of_month(moment: datetime) -> datetime:
    """Return the start of the moment's month."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def is_start_of_month(moment: datetime) -> bool:
    """Return whether a moment is at the start of a month."""
    return (moment.day, moment.hour) == (1, 0)


def next_month(moment: datetime) -> datetime:
    """Return the start of the month after that of a moment at the start of a month."""
    return (moment + timedelta(days=32)).replace(day=1)
