"""Two processes that are restarted in turns under load: no run fails, no event is missed, nothing is done twice."""

import asyncio
import itertools
import re
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.cli.event_client import EventClient
from tests.fixtures.model_server import Call, Json, ModelServer, completion
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import gapless
from tests.fixtures.services import ADMIN_KEY, PROJECT, write_models_config
from tests.fixtures.valkey import ValkeyProcess, free_port, running_valkey
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long
HEADERS = {"X-API-Key": ADMIN_KEY}
AGENT = "plot-specialist-001"
RESTARTS = 10
DRAIN_SECONDS = 1.0
STOP_SECONDS = 30
"""How long container platforms wait by default before they kill; about eleven seconds are needed here at most."""
START_EVERY_SECONDS = 0.25
LONG_CALL_SECONDS = 8.0
"""A model call that no grace waits for."""
MARK = re.compile(r"mark-\d+")


@dataclass
class Place:
    """One of the two processes, on a port that it keeps over its restarts."""

    directory: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: ServeProcess | None = None
    _running: AsyncExitStack | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self.directory.mkdir(exist_ok=True)
        self._running = AsyncExitStack()
        served = serving(self.directory, PORT=str(self.port), DATA_DIR=str(self.directory / "data"), **self.environment)
        self.process = await self._running.enter_async_context(served)

    async def end(self) -> None:
        """End it, whatever state it is in."""
        if self._running:
            await self._running.aclose()


@dataclass
class Load:
    """Clients that start runs at whichever process takes them and follow each to its end at one of the two."""

    places: list[Place]
    followed: dict[str, list[Json]] = field(default_factory=dict[str, list[Json]])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    detours: int = 0
    is_enough: bool = False

    async def run(self) -> None:
        """Start runs until it is enough; then see every one of them to its end."""
        async with httpx.AsyncClient(headers=HEADERS, timeout=20) as http, asyncio.TaskGroup() as group:
            for number in itertools.count():
                if self.is_enough:
                    break
                group.create_task(self._see_through(http, number))
                await asyncio.sleep(START_EVERY_SECONDS)

    async def _see_through(self, http: httpx.AsyncClient, number: int) -> None:
        execution_id = await self._start(http, number)
        seen = self.followed[execution_id] = []
        async for message in EventClient(self.places[number % 2].url, HEADERS).follow(execution_id):
            if "seq" in message:
                seen.append(message)
            else:
                self.ended[execution_id] = message["status"]

    async def _start(self, http: httpx.AsyncClient, number: int) -> str:
        """Post until a process accepts, to the other one when one does not."""
        body = {"prompt": f"Write {number}.", "project": PROJECT, "judge": False}
        headers = {"Idempotency-Key": f"run-{number}"}
        for place in itertools.cycle(self.places):
            try:
                path = f"{place.url}/api/v1/agents/{AGENT}/runs"
                answer = await http.post(path, json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return answer.json()["executionId"]
            assert answer is None or answer.status_code == 503, answer.text
            self.detours += 1
            await asyncio.sleep(0.05)
        raise AssertionError("a cycle ends")


@dataclass
class Studio:
    """Models whose answers are all different, and the requests that they received."""

    asked: defaultdict[tuple[str, int], list[str]] = field(
        default_factory=lambda: defaultdict[tuple[str, int], list[str]](list)
    )

    async def work(self, call: Call) -> Json:
        """A tool call, then an answer; one run in three takes longer than any grace."""
        mark = f"mark-{sum(map(len, self.asked.values()))}"
        step = len(call.tool_results)
        self.asked[call.execution_id, step].append(mark)
        number = int(call.text.partition("Write ")[2].partition(".")[0])
        await asyncio.sleep(LONG_CALL_SECONDS if step and number % 3 == 0 else 0.3)
        if step == 0:
            return completion(mark, ("textStatistics", {"text": "One. Two."}))
        return completion(f"{mark} is the answer.")


async def stop(place: Place) -> float:
    """Restart's first half: it is not ready first and still answers, sockets are closed with 1012, it ends with 0."""
    assert place.process is not None
    async with (
        connect(f"{place.url.replace('http', 'ws')}/api/agent-events", additional_headers=HEADERS) as socket,
        httpx.AsyncClient(base_url=place.url, headers=HEADERS, timeout=10) as http,
    ):
        assert (await http.get("/readyz")).status_code == 200
        began = time.monotonic()
        place.process.process.terminate()

        async def is_red() -> bool:
            return (await http.get("/readyz")).status_code == 503

        await wait_until(is_red, DRAIN_SECONDS)
        refused = await http.post(f"/api/v1/agents/{AGENT}/runs", json={"prompt": "Late.", "project": PROJECT})
        assert (refused.status_code, refused.json()["code"]) == (503, "service-stopping")
        assert refused.headers["retry-after"]
        assert (await http.get("/api/v1/executions?limit=1")).status_code == 200
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), STOP_SECONDS)
        assert socket.close_code == 1012
        assert await asyncio.wait_for(place.process.process.wait(), STOP_SECONDS) == 0
    return time.monotonic() - began


@asynccontextmanager
async def valkey_or_none(with_redis: bool, directory: Path) -> AsyncGenerator[ValkeyProcess | None]:
    """A Valkey, where the processes are to share one."""
    if not with_redis:
        yield None
        return
    async with running_valkey(directory) as server:
        yield server


@pytest.mark.parametrize("with_redis", [True, False], ids=["with Redis", "in-process"])
async def test_ten_restarts_in_turns_under_load_fail_no_run(
    with_redis: bool, database_uri: str, model_server: ModelServer, tmp_path: Path
) -> None:
    studio = Studio()
    model_server.on("work", studio.work)
    async with valkey_or_none(with_redis, tmp_path) as valkey, AsyncExitStack() as stack:
        environment = {
            "MONGODB_URI": database_uri,
            "MODELS_CONFIG": str(write_models_config(tmp_path / "models.yaml", model_server.url, timeout=30)),
            "ADMIN_API_KEY": ADMIN_KEY,
            "SEED_ON_START": "true",
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
            **({"REDIS_URL": valkey.url} if valkey else {}),
        }
        places = [Place(tmp_path / name, environment) for name in ("one", "two")]
        for place in places:
            stack.push_async_callback(place.end)
            await place.start()
        load = Load(places)
        running = asyncio.create_task(load.run())
        stops: list[float] = []
        for number in range(RESTARTS):
            place = places[number % 2]
            stops.append(await stop(place))
            await place.start()
        load.is_enough = True
        async with asyncio.timeout(90):
            await running

        async with httpx.AsyncClient(base_url=places[0].url, headers=HEADERS, timeout=20) as http:
            handed_over = 0
            for execution_id, seen in load.followed.items():
                handed_over += await check_run(http, execution_id, seen, studio)
                assert load.ended[execution_id] == "completed"
            total = (await http.get("/api/v1/executions?limit=1")).json()["total"]
    stopped = f"stops took {min(stops):.1f} to {max(stops):.1f} s"
    print(f"\n{total} runs, {handed_over} handed over, {load.detours} detours; {stopped}")  # noqa: T201 - for -s
    assert total == len(load.followed)
    assert handed_over >= RESTARTS // 2


async def check_run(http: httpx.AsyncClient, execution_id: str, seen: list[Json], studio: Studio) -> bool:
    """It completed, was seen whole, and no answer that was saved was asked for again; whether it was handed over."""
    execution: dict[str, Any] = (await http.get(f"/api/v1/executions/{execution_id}")).json()
    events: list[Json] = (await http.get(f"/api/v1/executions/{execution_id}/events?limit=200")).json()["items"]
    assert execution["status"] == "completed", (execution.get("error"), [event["type"] for event in events])
    assert gapless(events)
    assert seen == events
    kinds = [event["type"] for event in events if event["type"] != "agent-retry"]
    assert kinds == ["agent-start", "agent-thinking", "tool-call", "tool-result", "agent-response", "agent-complete"]
    saved = {mark for event in events if "usage" in event for mark in MARK.findall(str(event))}
    for step in (0, 1):
        asked = studio.asked[execution_id, step]
        assert [mark for mark in asked if mark in saved] == asked[-1:], asked
    return any(event["type"] == "agent-retry" for event in events)
