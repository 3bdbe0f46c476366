"""A database that hangs: every request gets a timely error, and accepted runs stay accepted."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.database.embedded.mongod import EmbeddedMongod
from app.events.log import tree_log as log
from tests.fixtures.http_api import assert_problem
from tests.fixtures.model_server import Call, ModelServer, Reply
from tests.fixtures.services import PROJECT, Service, running_service, write_models_config
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

RUNS = "/api/v1/agents/plot-specialist-001/runs"
BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}
PROMISED_SECONDS = 5.0
BUSY_SECONDS = 2.0
"""The delay that a busy machine may add."""


@pytest.fixture
def released(model_server: ModelServer) -> asyncio.Event:
    """Until this is set the model does not answer."""
    released = asyncio.Event()

    async def hold(_: Call) -> Reply:
        await released.wait()
        return "Done."

    model_server.on("work", hold)
    return released


@asynccontextmanager
async def service_and_mongod(
    directory: Path, model_server: ModelServer
) -> AsyncGenerator[tuple[Service, EmbeddedMongod]]:
    """A service on a mongod of its own, which runs again in the end, however it was treated."""
    mongod = EmbeddedMongod(directory / "mongod")
    uri = await mongod.start()
    config = write_models_config(directory / "models.yaml", model_server.url, timeout=60)
    try:
        async with running_service(uri, directory / "data", models_config=config) as service:
            yield service, mongod
            if mongod.pid:
                os.kill(mongod.pid, signal.SIGCONT)
    finally:
        if mongod.pid:
            os.kill(mongod.pid, signal.SIGCONT)
        await mongod.stop()


async def timed(answering: asyncio.Future[httpx.Response] | asyncio.Task[httpx.Response]) -> float:
    """The seconds until a request is answered as it should be without a database."""
    began = time.monotonic()
    answer = await answering
    assert_problem(answer, 503, "database-unavailable")
    return time.monotonic() - began


async def test_every_request_is_answered_in_time_when_the_database_hangs(
    tmp_path: Path, model_server: ModelServer, released: asyncio.Event
) -> None:
    async with service_and_mongod(tmp_path, model_server) as (service, mongod):
        http = service.http
        run = (await http.post(RUNS, json=BODY)).json()["executionId"]
        assert mongod.pid
        os.kill(mongod.pid, signal.SIGSTOP)

        requests = [
            http.get("/api/v1/executions"),
            http.post(RUNS, json=BODY),
            http.post(f"/api/v1/executions/{run}/cancel"),
            http.delete(f"/api/v1/executions/{run}"),
            http.patch("/api/v1/agents/plot-specialist-001", json={"name": "Another"}),
            http.post("/api/v1/api-keys", json={"name": "new", "role": "viewer"}),
        ]
        seconds = await asyncio.gather(*(timed(asyncio.ensure_future(one)) for one in requests))
        later = await timed(asyncio.ensure_future(http.get("/api/v1/executions")))

        os.kill(mongod.pid, signal.SIGCONT)
        released.set()

    assert max(seconds) < PROMISED_SECONDS + BUSY_SECONDS
    assert later < PROMISED_SECONDS


@pytest.mark.long
async def test_a_waiting_caller_gets_202_when_the_database_fails(
    tmp_path: Path, model_server: ModelServer, released: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "RETRY_FOR_SECONDS", 1.0)
    async with service_and_mongod(tmp_path, model_server) as (service, mongod):
        renewer = service.services.engine.lease_renewer
        monkeypatch.setattr(renewer, "timings", replace(renewer.timings, give_up_seconds=1.0))
        waiting = asyncio.create_task(service.http.post(RUNS, json=BODY, headers={"Prefer": "wait=30"}))
        await wait_until(lambda: bool(model_server.calls))
        await mongod.stop()
        released.set()

        answer = await waiting

    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"
    assert answer.headers["Location"].endswith(answer.json()["executionId"])
