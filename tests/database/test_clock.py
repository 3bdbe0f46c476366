"""The database's clock is read in UTC, whatever this machine's time zone is."""

import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta

import pytest

from app.database.clock import database_time
from app.services.runs.engine.leases import Leases
from tests.fixtures.services import Service


@pytest.fixture(params=["America/New_York", "Asia/Kolkata", "UTC"])
def time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """The time zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


async def test_leases_go_by_the_database_s_time_in_any_time_zone(shared_service: Service, time_zone: str) -> None:
    database = shared_service.services.database
    leases = Leases(database, "someone", 3600)

    await leases.read_clock()

    for now in (await database_time(database), leases.server_now()):
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=5), time_zone
