"""Times as MongoDB stores them and the API writes them."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, truncated to milliseconds like a BSON date, so that storing does not change it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso_milliseconds(moment: datetime) -> str:
    """Format a time the way the API does: `2026-01-01T00:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
