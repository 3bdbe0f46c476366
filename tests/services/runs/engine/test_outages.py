"""A replica set that loses its primary, and a database that is unavailable for a while, in the middle of a run."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.http_api import open_socket
from tests.fixtures.model_server import Call, ModelServer, Reply
from tests.fixtures.replica_set import ReplicaSet, running_replica_set
from tests.fixtures.runs import all_events, gapless
from tests.fixtures.services import PROJECT, Service, running_service, write_models_config
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow

AWAY_SECONDS = 10.0
ANSWER_SECONDS = 6.0
BACK_SECONDS = 60
AGENT = "plot-specialist-001"


class Hold:
    """Holds an agent's model calls until the database has gone."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, _: Call) -> Reply:
        self.reached.set()
        await self.released.wait()
        return "The work is done."


async def start(service: Service) -> str:
    """Start a run of one agent without waiting."""
    body = {"prompt": "Write.", "project": PROJECT, "judge": False}
    answer = await service.http.post(f"/api/v1/agents/{AGENT}/runs", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["executionId"]


async def until_completed(service: Service, execution_id: str) -> None:
    """Wait until the run has completed; the database may still be unavailable when this begins."""

    async def is_completed() -> bool:
        answer = await service.http.get(f"/api/v1/executions/{execution_id}")
        return answer.status_code == 200 and answer.json()["status"] == "completed"

    await wait_until(is_completed, BACK_SECONDS)


async def followed(service: Service, execution_id: str, subscribed: asyncio.Event) -> list[dict[str, Any]]:
    """The events that a subscriber receives, to the end."""
    async with open_socket(service) as socket:
        socket.patience_seconds = BACK_SECONDS
        await socket.ask(type="subscribe", executionId=execution_id)
        subscribed.set()
        return await socket.until_end()


async def run_through(service: Service, model_server: ModelServer, outage: Any) -> None:  # noqa: ANN401 - a coroutine function
    """A run during whose model call something happens to the database: it completes, and all of it is seen once."""
    hold = Hold()
    model_server.reset()
    model_server.on("work", hold)
    execution_id = await start(service)
    subscribed = asyncio.Event()
    subscriber = asyncio.create_task(followed(service, execution_id, subscribed))
    await subscribed.wait()
    await hold.reached.wait()

    await outage(hold)

    hold.released.set()
    await until_completed(service, execution_id)
    stored = await all_events(service, execution_id)
    seen = [event for event in await asyncio.wait_for(subscriber, BACK_SECONDS) if "seq" in event]
    assert gapless(stored)
    assert [event["type"] for event in stored if event["type"] == "agent-complete"] == ["agent-complete"]
    assert seen == stored


@pytest.mark.long
async def test_runs_survive_a_lost_primary_and_an_unavailable_database(
    tmp_path: Path, model_server: ModelServer
) -> None:
    models_config = write_models_config(tmp_path / "models.yaml", model_server.url, timeout=BACK_SECONDS)
    async with running_replica_set(tmp_path) as replica_set:
        uri = replica_set.uri.replace("/?", "/outages?")
        async with running_service(uri, tmp_path / "data", models_config=models_config) as service:

            async def lose_primary(hold: Hold) -> None:
                primary = await replica_set.find_primary()
                assert primary is not None
                await primary.end()
                hold.released.set()
                await wait_until(replica_set.has_primary, BACK_SECONDS)
                await primary.start()

            async def go_away(_: Hold) -> None:
                await asyncio.gather(*(node.end() for node in replica_set.nodes))
                await answers_meanwhile(service)
                await come_back(replica_set)

            await run_through(service, model_server, lose_primary)
            assert len(model_server.calls_for("work")) == 1
            await run_through(service, model_server, go_away)
            model_server.reset()
            assert (await service.run_agent(AGENT, judge=False))["status"] == "completed"


async def answers_meanwhile(service: Service) -> None:
    """While the database is unavailable, every request is answered in time."""
    gone = time.monotonic()
    while time.monotonic() < gone + AWAY_SECONDS:
        asked = time.monotonic()
        answer = await service.http.get("/api/v1/executions")
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
        assert answer.headers["retry-after"]
        assert time.monotonic() - asked < ANSWER_SECONDS


async def come_back(replica_set: ReplicaSet) -> None:
    """All nodes on their data again, and one of them primary."""
    await asyncio.gather(*(node.start() for node in replica_set.nodes))
    await wait_until(replica_set.has_primary, BACK_SECONDS)


async def test_the_embedded_mongod_killed_in_the_middle_of_a_run_is_started_again(
    model_server: ModelServer, tmp_path: Path
) -> None:
    config = write_models_config(tmp_path / "models.yaml", model_server.url)
    async with running_service("", tmp_path / "data", mongodb_uri=None, models_config=config) as service:
        admin = service.services.database.client.admin
        killed = (await admin.command("serverStatus"))["pid"]

        async def kill_mongod(_: Hold) -> None:
            os.kill(killed, signal.SIGKILL)

        await run_through(service, model_server, kill_mongod)

        assert (await admin.command("serverStatus"))["pid"] != killed
        assert (await service.http.get("/readyz")).status_code == 200
