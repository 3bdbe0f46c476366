"""Processes whose database, queue or event loop stops: each says within fifteen seconds that it takes no work."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.database.embedded.mongod import EmbeddedMongod
from tests.fixtures.model_server import ModelServer, completion
from tests.fixtures.processes import ROOT, ServeProcess, serving
from tests.fixtures.services import ADMIN_KEY, PROJECT, write_models_config
from tests.fixtures.valkey import ValkeyProcess
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long
HEADERS = {"X-API-Key": ADMIN_KEY}
AGENT = "plot-specialist-001"
RED_SECONDS = 15
PROBE_SECONDS = 5
"""A process that answers a probe later than this counts as red."""
BACK_SECONDS = 40


@dataclass
class Processes:
    """An API process and a worker on one mongod and one Valkey, as a prober sees them."""

    mongod: EmbeddedMongod
    valkey: ValkeyProcess
    http: httpx.AsyncClient
    served: list[ServeProcess]

    @property
    def urls(self) -> list[str]:
        """Their addresses."""
        return [process.url.removesuffix("/readyz") for process in self.served]

    async def wrong(self, url: str) -> set[str]:
        """Return the names of a process's failed checks, or `silent` if it does not respond."""
        try:
            answer = await self.http.get(f"{url}/readyz")
        except httpx.TransportError:
            return {"silent"}
        checks = {name for name, result in answer.json()["checks"].items() if result != "ok"}
        assert (answer.status_code == 503) is bool(checks)
        return checks

    async def until_red(self, name: str, *urls: str) -> None:
        """Wait until every one of these processes, by default both, says that this is wrong."""
        began = time.monotonic()

        async def are_red() -> bool:
            return all([name in await self.wrong(url) for url in urls or self.urls])

        await wait_until(are_red, RED_SECONDS)
        print(f"\n{name} is red after {time.monotonic() - began:.1f} s")  # noqa: T201 - for -s

    async def until_green(self) -> None:
        """Wait until every process is ready."""

        async def are_green() -> bool:
            return not any([await self.wrong(url) for url in self.urls])

        await wait_until(are_green, BACK_SECONDS)


@asynccontextmanager
async def running_processes(
    directory: Path, model_server: ModelServer, valkey: ValkeyProcess
) -> AsyncGenerator[Processes]:
    """Both processes, ready."""
    mongod = EmbeddedMongod(directory / "mongod")
    uri = await mongod.start()
    environment = {
        "MONGODB_URI": uri.replace("/?", "/readiness?"),
        "REDIS_URL": valkey.url,
        "MODELS_CONFIG": str(write_models_config(directory / "models.yaml", model_server.url, timeout=30)),
        "ADMIN_API_KEY": ADMIN_KEY,
        "SEED_ON_START": "true",
        "TOOL_MODULES": "tests.fixtures.blocking_tools",
        "PYTHONPATH": str(ROOT),
    }
    try:
        async with AsyncExitStack() as stack, httpx.AsyncClient(headers=HEADERS, timeout=PROBE_SECONDS) as http:
            api = await stack.enter_async_context(serving(directory, SERVE_RUNS="false", **environment))
            worker = await stack.enter_async_context(serving(directory, "worker", **environment))
            processes = Processes(mongod, valkey, http, [api, worker])
            await processes.until_green()
            yield processes
            if mongod.pid:
                os.kill(mongod.pid, signal.SIGCONT)
    finally:
        await mongod.stop()


async def test_a_process_without_its_database_or_its_queue_is_red_in_time_and_green_when_it_is_back(
    tmp_path: Path, model_server: ModelServer, valkey: ValkeyProcess
) -> None:
    async with running_processes(tmp_path, model_server, valkey) as processes:
        mongod = processes.mongod
        assert mongod.pid
        os.kill(mongod.pid, signal.SIGSTOP)
        await processes.until_red("database")
        os.kill(mongod.pid, signal.SIGCONT)
        await processes.until_green()

        valkey.freeze()
        await processes.until_red("queue")
        valkey.thaw()
        await processes.until_green()

        await valkey.stop()
        await processes.until_red("queue")
        await valkey.start()
        await processes.until_green()

        os.kill(mongod.pid, signal.SIGKILL)
        await processes.until_red("database")
        await mongod.stop()
        began = time.monotonic()
        assert await asyncio.gather(*(process.stop() for process in processes.served)) == [0, 0]
        print(f"\nwithout a database they stop in {time.monotonic() - began:.1f} s")  # noqa: T201 - for -s


async def test_a_process_whose_event_loop_is_blocked_answers_no_probe_and_continues_afterwards(
    tmp_path: Path, model_server: ModelServer, valkey: ValkeyProcess
) -> None:
    model_server.on("work", lambda call: "Done." if call.tool_results else completion(None, ("blockTheLoop", {})))
    async with running_processes(tmp_path, model_server, valkey) as processes:
        http, (api, worker) = processes.http, processes.urls
        path = f"{api}/api/v1/agents/{AGENT}"
        granted = await http.patch(path, json={"toolNames": ["blockTheLoop"]})
        assert granted.status_code == 200, granted.text
        body = {"prompt": "Write.", "project": PROJECT, "judge": False}
        accepted = (await http.post(f"{path}/runs", json=body)).json()

        await processes.until_red("silent", worker)
        assert await processes.wrong(api) == set()
        await processes.until_green()

        async def is_completed() -> bool:
            answer = await http.get(f"{api}{accepted['links']['self']}")
            return answer.json()["status"] == "completed"

        await wait_until(is_completed, BACK_SECONDS)
