"""Days and months of budgets end where their time zone says, at daylight saving and month ends too."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.database.connection import Database
from app.services.usage.budgets.amounts import Amount
from app.services.usage.budgets.schemas import BudgetWrite
from app.services.usage.budgets.store import BudgetStore


def moment(text: str) -> datetime:
    """A UTC time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def limits(period: str, timezone: str = "UTC") -> dict[str, object]:
    """Stored limits of 1,000 tokens."""
    return BudgetWrite.model_validate({"maxTokens": 1000, "period": period, "timezone": timezone}).as_stored()


@pytest.mark.parametrize(
    ("period", "timezone", "now", "resets_at"),
    [
        ("day", "UTC", "2026-03-29T00:00:00", "2026-03-30T00:00:00"),
        ("day", "Europe/Berlin", "2026-03-28T23:30:00", "2026-03-29T22:00:00"),  # 23 hours long
        ("day", "Europe/Berlin", "2026-10-24T22:00:00", "2026-10-25T23:00:00"),  # 25 hours long
        ("day", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T23:00:00"),  # 2:30 for the first time
        ("day", "Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T23:00:00"),  # and again
        ("day", "America/New_York", "2026-03-08T04:59:59", "2026-03-08T05:00:00"),
        ("day", "Asia/Kathmandu", "2026-01-01T18:14:59", "2026-01-01T18:15:00"),
        ("day", "Asia/Kathmandu", "2026-01-01T18:15:00", "2026-01-02T18:15:00"),
        ("day", "Pacific/Kiritimati", "2026-12-31T09:59:59", "2026-12-31T10:00:00"),
        ("day", "UTC", "2028-02-28T12:00:00", "2028-02-29T00:00:00"),
        ("month", "UTC", "2026-01-31T23:59:59", "2026-02-01T00:00:00"),
        ("month", "UTC", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        ("month", "UTC", "2028-02-29T10:00:00", "2028-03-01T00:00:00"),
        ("month", "UTC", "2026-12-31T10:00:00", "2027-01-01T00:00:00"),
        ("month", "Europe/Berlin", "2026-03-15T10:00:00", "2026-03-31T22:00:00"),
        ("month", "Europe/Berlin", "2026-10-15T10:00:00", "2026-10-31T23:00:00"),
        ("month", "America/Los_Angeles", "2026-11-01T06:59:59", "2026-11-01T07:00:00"),
        ("month", "America/Los_Angeles", "2026-11-01T07:00:00", "2026-12-01T08:00:00"),
    ],
)
async def test_a_period_ends_where_its_time_zone_says(
    database: Database, period: str, timezone: str, now: str, resets_at: str
) -> None:
    budget = await BudgetStore(database, moment(now)).put("global", limits(period, timezone))

    assert budget["resetsAt"] == moment(resets_at)


@pytest.mark.parametrize("timezone", ["America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut"])
async def test_days_follow_each_other_without_gaps_where_midnight_can_be_missing(
    database: Database, timezone: str
) -> None:
    zone, now = ZoneInfo(timezone), moment("2018-10-01T12:00:00")
    await BudgetStore(database, now).put("global", limits("day", timezone))
    for _ in range(60):
        end = (await BudgetStore(database, now).get("global"))["resetsAt"]
        before, after = (end - timedelta(milliseconds=1)).astimezone(zone), end.astimezone(zone)

        assert timedelta(0) < end - now <= timedelta(hours=25)
        assert after.date() == before.date() + timedelta(days=1)
        now = end


async def test_total_never_resets(database: Database) -> None:
    budget = await BudgetStore(database).put("global", limits("total"))

    assert budget["resetsAt"] is None


async def test_a_period_starts_over_in_the_update_that_finds_it_due(database: Database) -> None:
    day_one = BudgetStore(database, moment("2026-03-28T22:59:00"))
    await day_one.put("global", limits("day", "Europe/Berlin"))
    await day_one.reserve("global", "a", "root", Amount(900))
    await day_one.settle("global", "a", Amount(900))
    await day_one.reserve("global", "b", "root", Amount(100))

    assert (await day_one.reserve("global", "c", "root", Amount(1)) or {})["reservations"] == [{"id": "b"}]
    day_two = BudgetStore(database, moment("2026-03-28T23:00:00"))
    assert [one["id"] for one in (await day_two.reserve("global", "d", "root", Amount(900)) or {})["reservations"]] == [
        "b",
        "d",
    ]
    found = await day_two.get("global")
    assert (found["usedTokens"], found["reservedTokens"]) == (0, 1000)
    await day_two.settle("global", "b", Amount(70))
    assert (await day_two.get("global"))["usedTokens"] == 70


async def test_a_clock_that_goes_back_does_not_restart_a_period(database: Database) -> None:
    after, before = moment("2026-05-02T00:00:01"), moment("2026-05-01T23:59:59")
    await BudgetStore(database, before).put("global", limits("day"))
    await BudgetStore(database, after).reserve("global", "a", "root", Amount(10))
    await BudgetStore(database, after).settle("global", "a", Amount(10))
    found = await BudgetStore(database, before).get("global")

    assert (found["usedTokens"], found["resetsAt"]) == (10, moment("2026-05-03T00:00:00"))


async def test_another_period_starts_the_count_over_and_another_time_zone_does_not(database: Database) -> None:
    store = BudgetStore(database, moment("2026-05-02T10:00:00"))
    await store.put("global", limits("day"))
    await store.reserve("global", "a", "root", Amount(10))
    await store.settle("global", "a", Amount(10))

    moved = await store.put("global", limits("day", "Asia/Tokyo"))
    assert (moved["usedTokens"], moved["resetsAt"]) == (10, moment("2026-05-02T15:00:00"))
    changed = await store.put("global", limits("month", "Asia/Tokyo"))
    assert (changed["usedTokens"], changed["resetsAt"]) == (0, moment("2026-05-31T15:00:00"))
