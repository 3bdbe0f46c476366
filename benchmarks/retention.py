"""The cost of retention: reads and runs beside a pass, the memory of the service, and trees archived in a second."""

import asyncio
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import bson
import orjson
import uvloop
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from rich.table import Table

from app.database.connection import Database
from app.database.opening import open_database
from app.settings import Settings
from benchmarks.children import Child, usage_of
from benchmarks.load import client_session
from benchmarks.service import ADMIN_KEY, COMMAND, PROJECT, running_service, service_environment
from benchmarks.tables import goal, table_of

EXECUTIONS = int(os.environ.get("BENCH_EXECUTIONS", "20000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "45"))
COMMAND_SECONDS = 60.0
RETENTION_DAYS, SPREAD_DAYS = 30, 300
RECENT_TREES = 200
CLIENTS = 4
BATCH = 1_000
GOAL_RATIO = 1.2
GOAL_GROWTH_MB = 30
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
COLLECTIONS = ("agent-executions", "agent-execution-events", "agent-execution-payloads", "agent-execution-prompts")
ID_PREFIX, ID_LENGTH = "exec_", len("exec_1234567890123_abcdefghi")
NUMBERS = itertools.count(1)
Reads = dict[str, list[float]]


@dataclass
class Found:
    """The figures: milliseconds of requests by name without and with a pass, memory, and trees in a second."""

    trees: int = 0
    executions: int = 0
    before: Reads = field(default_factory=dict[str, list[float]])
    during: Reads = field(default_factory=dict[str, list[float]])
    recent: list[str] = field(default_factory=list[str])
    memory_mb: list[float] = field(default_factory=list[float])
    background_rate: float = 0.0
    command_rate: float = 0.0
    compressed_share: float = 0.0


def retention_tables() -> Iterator[Table]:
    """Requests without and with a pass in the background, then the pass itself."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        environment = service_environment(directory)
        found = Found()
        with running_service(environment, directory) as service:
            uvloop.run(fill_and_measure(service, directory / "data", found))
        environment |= {"EXECUTION_RETENTION_DAYS": str(RETENTION_DAYS)}
        with running_service(environment, directory) as service:
            uvloop.run(measure_pass(service, directory / "data", found))
        found.command_rate = measure_command(environment, directory)
        found.compressed_share = compressed_share(directory / "data" / "archive")
    yield requests_table(found)
    yield pass_table(found)


def requests_table(found: Found) -> Table:
    """Return the requests without and with a pass."""
    title = f"{CLIENTS} clients, {found.executions:,} old executions in {found.trees:,} trees"
    table = table_of(
        title, "requests", "ms p50, no pass", "p95", "ms p50, during a pass", "p95", "p95 ratio (goal: 1.2)"
    )
    for name, before in found.before.items():
        during = found.during[name]
        ratio = p95(during) / p95(before)
        table.add_row(
            name,
            f"{len(before)} / {len(during)}",
            *(f"{figure:.1f}" for one in (before, during) for figure in (statistics.median(one), p95(one))),
            goal(f"{ratio:.2f}", met=ratio <= GOAL_RATIO),
        )
    return table


def pass_table(found: Found) -> Table:
    """Return the figures of the pass."""
    table = table_of("Retention", "")
    growth = found.memory_mb[-1] - found.memory_mb[0]
    shown = ", ".join(f"{one:.0f}" for one in found.memory_mb)
    table.add_row("the service's memory during the pass, MiB", shown)
    table.add_row("its growth, MiB", goal(f"{growth:.0f}", met=growth <= GOAL_GROWTH_MB))
    table.add_row("trees/s in the background (a quarter of the time)", f"{found.background_rate:.1f}")
    table.add_row("trees/s by `dynamic-agents archive`, alone", f"{found.command_rate:.1f}")
    table.add_row("size of the compressed file, share of its lines", f"{found.compressed_share:.0%}")
    return table


def p95(milliseconds: list[float]) -> float:
    """Nineteen in twenty are faster."""
    return statistics.quantiles(milliseconds, n=20)[-1]


async def fill_and_measure(service: Child, data_dir: Path, found: Found) -> None:
    """Make one run, store copies of it as old and as recent runs, and measure requests without a pass."""
    async with open_own(data_dir) as database, client_session() as http:
        root_id = await run_department(http, service)
        pattern = await pattern_of(database, root_id)
        found.trees = max(EXECUTIONS // pattern.members, 1)
        found.executions = found.trees * pattern.members
        now = datetime.now(UTC)
        for place in range(found.trees):
            age = timedelta(days=RETENTION_DAYS + 1 + SPREAD_DAYS * (1 - place / found.trees))
            await pattern.store(database, now - age)
        recent = [await pattern.store(database, now) for _ in range(RECENT_TREES)]
        await pattern.flush(database)
        await measure(http, service, recent, SECONDS / 3)  # warms what both sides use
        found.before = await measure(http, service, recent, SECONDS)
        found.recent = recent


async def measure_pass(service: Child, data_dir: Path, found: Found) -> None:
    """Measure the same requests while the service archives, its memory, and how many trees it archives."""
    async with open_own(data_dir) as database, client_session() as http:
        await measure(http, service, found.recent, SECONDS / 3)
        watching = asyncio.create_task(watch_memory(service, found.memory_mb))
        trees, began = await count_archived(database), time.perf_counter()
        found.during = await measure(http, service, found.recent, SECONDS)
        found.background_rate = (await count_archived(database) - trees) / (time.perf_counter() - began)
        watching.cancel()
        found.memory_mb.append(usage_of(service.process.pid).resident_mb)


def measure_command(environment: dict[str, str], directory: Path) -> float:
    """Return the trees that the command archives in a second, alone, for a while."""
    before, began = uvloop.run(count_alone(directory / "data")), time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "archive", "--older-than", f"{RETENTION_DAYS}d"],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
    return (uvloop.run(count_alone(directory / "data")) - before) / (time.perf_counter() - began)


async def count_alone(data_dir: Path) -> int:
    """Count the archived trees while no service runs."""
    async with open_own(data_dir) as database:
        await database["process-leases"].delete_many({})  # that of a process that was stopped above
        return await count_archived(database)


def open_own(data_dir: Path) -> Any:  # noqa: ANN401 - a context manager of the database
    """Open the embedded database of the benchmark, shared with the service if it runs."""
    settings = Settings(_env_file=None, data_dir=data_dir)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    return open_database(settings, share=True)


async def count_archived(database: Database) -> int:
    """Return the number of trees that are archived and trimmed."""
    selector = {"parentExecutionId": None, "archivedAt": {"$exists": True}, "untrimmed": None}
    return await database["agent-executions"].count_documents(selector)


async def watch_memory(service: Child, samples: list[float]) -> None:
    """Note the memory of the service ten times."""
    while True:
        samples.append(usage_of(service.process.pid).resident_mb)
        await asyncio.sleep(SECONDS / 8)


def compressed_share(directory: Path) -> float:
    """Return the size of some compressed files relative to their lines."""
    compressed = lines = 0
    for path in itertools.islice(directory.rglob("*.manifest.json"), 200):
        manifest: dict[str, Any] = orjson.loads(path.read_bytes())
        compressed += manifest["sizeBytes"]
        lines += sum(block["textBytes"] for block in manifest["blocks"])
    return compressed / lines


async def run_department(http: aiohttp.ClientSession, service: Child) -> str:
    """Run the Story department with the demo model; the root's id."""
    body = {"prompt": "Outline a short film about a lighthouse keeper who repairs clocks.", "project": PROJECT}
    url = f"{service.url}/api/v1/departments/story/runs"
    async with http.post(url, json=body, headers={**HEADERS, "Prefer": "wait=60"}) as answer:
        found = await answer.json()
        assert found["status"] == "completed", found
    await asyncio.sleep(3)  # its statistics are counted
    return found["executionId"]


@dataclass
class Pattern:
    """The documents of a run as bytes, to be stored again under other ids."""

    members: int
    ids: list[str]
    documents: list[tuple[str, bytes]]
    pending: dict[str, list[RawBSONDocument]] = field(default_factory=dict[str, list[RawBSONDocument]])

    async def store(self, database: Database, completed_at: datetime) -> str:
        """Store a copy that ended at a time, soon; its root's id."""
        number = next(NUMBERS)
        names = {one: f"{ID_PREFIX}{number:013d}_{place:09d}" for place, one in enumerate(self.ids)}
        for collection, document in self.documents:
            content = document
            for old, new in names.items():
                content = content.replace(old.encode(), new.encode())
            raw = bson.decode(content)
            raw["_id"] = raw["_id"] if isinstance(raw["_id"], str) else ObjectId()
            if collection == COLLECTIONS[0]:
                raw |= {"completedAt": completed_at, "startedAt": completed_at, "createdAt": completed_at}
            self.pending.setdefault(collection, []).append(RawBSONDocument(bson.encode(raw)))
        if len(self.pending[COLLECTIONS[0]]) >= BATCH:
            await self.flush(database)
        return names[self.ids[0]]

    async def flush(self, database: Database) -> None:
        """Store what is pending."""
        for collection, rows in self.pending.items():
            if rows:
                await database[collection].insert_many(rows, ordered=False)  # pyright: ignore[reportArgumentType] - also a document
        self.pending = {}


async def pattern_of(database: Database, root_id: str) -> Pattern:
    """Return the documents of a run as a pattern."""
    documents: list[tuple[str, bytes]] = []
    ids = [root_id]
    for collection in COLLECTIONS:
        async for raw in database[collection].find({"rootExecutionId": root_id}).sort("_id"):
            documents.append((collection, bson.encode(raw)))
            if collection == COLLECTIONS[0] and raw["executionId"] != root_id:
                ids.append(raw["executionId"])
    return Pattern(len(ids), ids, documents)


async def measure(http: aiohttp.ClientSession, service: Child, recent: list[str], seconds: float) -> Reads:
    """Send requests for a while, by several clients; the milliseconds of each by its name."""
    until = time.perf_counter() + seconds
    found: Reads = {}
    await asyncio.gather(*(ask(http, service, recent, until, client, found) for client in range(CLIENTS)))
    return found


async def ask(
    http: aiohttp.ClientSession, service: Child, recent: list[str], until: float, client: int, found: Reads
) -> None:
    """Send one request after the other."""
    for place in itertools.count(client):
        if time.perf_counter() > until:
            return
        root_id = recent[place % len(recent)]
        for name, path in (
            ("list of 50 runs", "executions?limit=50"),
            ("one run", f"executions/{root_id}"),
            ("its events", f"executions/{root_id}/events?limit=200"),
        ):
            began = time.perf_counter()
            async with http.get(f"{service.url}/api/v1/{path}", headers=HEADERS) as answer:
                await answer.read()
                assert answer.status == 200, await answer.text()
            found.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        await run_agent(http, service, found)
        await asyncio.sleep(0.02)


async def run_agent(http: aiohttp.ClientSession, service: Child, found: Reads) -> None:
    """Run an agent with the demo model to its end."""
    body = {"prompt": "Write a line.", "project": PROJECT, "judge": False}
    began = time.perf_counter()
    url = f"{service.url}/api/v1/agents/dialogue-specialist-001/runs"
    async with http.post(url, json=body, headers={**HEADERS, "Prefer": "wait=30"}) as answer:
        await answer.read()
        assert answer.status == 200, await answer.text()
    found.setdefault("agent run, waited for", []).append((time.perf_counter() - began) * 1000)
