"""An embedded mongod that ends by itself comes back, with a real mongod that is killed."""

import asyncio
import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, DuplicateKeyError
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.database.embedded import supervisor
from app.database.embedded.mongod import EmbeddedMongod, find_mongod
from app.database.embedded.supervisor import running_mongod
from tests.fixtures.mongods import is_alive, script, silent_listener
from tests.fixtures.waiting import wait_until

BACK_SECONDS = 30


async def kill(pid: int | None) -> None:
    """Kill a process and wait until it has gone."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: not is_alive(pid))


def count_of(lines: list[EventDict], event: str) -> int:
    """How many lines tell of an event."""
    return sum(line["event"] == event for line in lines)


async def insert_once_reachable(client: AsyncMongoClient[Any], note: str) -> None:
    """Insert a note; the driver repeats a write once only, and a dying mongod may cut both connections."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.shelf.notes.insert_one({"_id": note})
            except AutoReconnect:
                continue
            except DuplicateKeyError:
                pass
            return


@pytest.mark.slow
async def test_a_killed_mongod_is_back_on_its_port_with_its_documents_each_time(tmp_path: Path) -> None:
    mongod = EmbeddedMongod(tmp_path)

    with capture_logs() as lines:
        async with running_mongod(mongod) as uri, AsyncMongoClient(uri, serverSelectionTimeoutMS=20_000) as client:
            for number, victim in enumerate(("mongod", "guard")):
                await client.shelf.notes.insert_one({"_id": number})
                await kill(mongod.pid if victim == "mongod" else mongod.guard_pid)
                await insert_once_reachable(client, f"after {victim}")
                await wait_until(lambda again=number + 1: count_of(lines, "embedded-mongod-restarted") == again, 20)
            notes = [note["_id"] async for note in client.shelf.notes.find()]
            pids = mongod.pid, mongod.guard_pid

    assert set(notes) == {0, "after mongod", 1, "after guard"}
    told = [(line["log_level"], line["event"]) for line in lines]
    assert told.count(("error", "embedded-mongod-ended")) == told.count(("info", "embedded-mongod-restarted")) == 2
    assert not any(is_alive(pid) for pid in pids if pid)


@pytest.mark.slow
async def test_a_failed_start_is_retried_after_growing_pauses_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LAST_PAUSE_SECONDS", 0.5)
    real = f'#!/bin/sh\nexec {shlex.quote(str(find_mongod(None)))} "$@"\n'
    binary = tmp_path / "mongod"
    mongod = EmbeddedMongod(tmp_path / "data", binary=script(binary, real))

    with capture_logs() as lines:

        def reasons() -> list[str]:
            return [line["reason"] for line in lines if line["event"] == "embedded-mongod-restart-failed"]

        async with running_mongod(mongod) as uri, AsyncMongoClient(uri, serverSelectionTimeoutMS=20_000) as client:
            port = int(uri.rpartition(":")[2].partition("/")[0])
            script(binary, "#!/bin/sh\necho not today\nexit 3\n")
            await kill(mongod.pid)
            await wait_until(lambda: len(reasons()) >= 2, BACK_SECONDS)
            with silent_listener(port):
                await wait_until(lambda: "Another program has taken port" in reasons()[-1], BACK_SECONDS)
            script(binary, real)
            await client.shelf.notes.insert_one({"_id": "back"})

    pauses = [line["inSeconds"] for line in lines if line["event"] == "embedded-mongod-restart-scheduled"]
    assert pauses[:3] == [0.2, 0.4, 0.5]
    assert set(pauses[2:]) == {0.5}
    assert "not today" in reasons()[0]


async def test_it_is_not_restarted_once_the_service_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 60.0)
    mongod = EmbeddedMongod(tmp_path)

    async with running_mongod(mongod):
        await kill(mongod.pid)
        await asyncio.wait_for(mongod.wait(), 5)
        began = time.monotonic()

    assert time.monotonic() - began < 5
    assert mongod.pid is None
    assert mongod.guard_pid is None
