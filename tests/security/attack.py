"""Every attack on a service, one by one and then all together: `make attack`.

The mixed attack takes `ATTACK_SECONDS` (300), each of the others `EACH_SECONDS` (3). `ATTACKS` selects attacks by name,
separated by commas. Department runs continue meanwhile. Everything stays on the loopback and stops by itself.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from app.database.opening import open_database
from app.settings import Settings
from tests.fixtures.attacking import Outcome, Target, launch, load
from tests.fixtures.processes import bare_environment
from tests.fixtures.victim import MEBIBYTE, Latencies, Share, Victim, resident_bytes, watching_memory

ADMIN_KEY = "admin-key-of-the-attacks"
EXECUTION = "exec_of_another_program"
PROJECT = "66f0a1b2c3d4e5f601234567"
DEPARTMENT = "audio"
GOAL_P99_MS, GOAL_LAG_MS = 100.0, 50.0
AT_A_TIME = 6
SETTLE_SECONDS = 2.0
READY_SECONDS = 120
LOST = ("lease-renewal-failed", "run-failed")


@dataclass
class Service:
    """The service under attack: its process, its port, and where it writes."""

    process: asyncio.subprocess.Process
    port: int
    directory: Path

    def lags(self, since: float) -> Latencies:
        """How late its event loop was, from a moment on."""
        lines = map(orjson.loads, (self.directory / "lags").read_bytes().splitlines())
        return Latencies([lag for moment, lags in lines if moment > since for lag in lags])

    def lost(self) -> list[str]:
        """The log lines so far that tell of lost leases and runs."""
        found: list[str] = []
        for line in (self.directory / "serve.log").read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if entry.get("event") in LOST or entry.get("takeovers"):
                    found.append(line.decode())
        return found


@dataclass
class Row:
    """The result of one attack."""

    name: str
    latencies: Latencies = field(default_factory=Latencies)
    lags: Latencies = field(default_factory=Latencies)
    grown: Latencies = field(default_factory=Latencies)
    memory: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0
    peers: int = 0
    lost: list[str] = field(default_factory=list[str])
    endings: Counter[str] = field(default_factory=Counter[str])

    @property
    def misses(self) -> bool:
        """Whether a goal is missed, on a processor that others use too; the lags are without waiting for it."""
        late = self.latencies.percentile(99) > GOAL_P99_MS * self.stretch
        return late or self.lags.percentile(99) > GOAL_LAG_MS or bool(self.lost)

    def cells(self) -> list[str]:
        """The row of the table."""
        before, after = self.memory
        endings = ", ".join(f"{ending} {count}" for ending, count in self.endings.most_common(4))
        return [
            self.name,
            str(self.peers),
            f"{self.latencies.percentile(50):.1f} / {self.latencies.percentile(99):.1f}",
            f"{self.lags.percentile(99):.1f}",
            f"{before:.0f} / +{self.grown.percentile(100):.1f} / {after - before:+.1f}",
            f"{self.stretch:.1f}",
            str(len(self.lost)),
            endings,
        ]


@asynccontextmanager
async def running_service(directory: Path) -> AsyncGenerator[Service]:
    """The service with an embedded database and the demo model."""
    settings = {"DATA_DIR": str(directory / "data"), "ADMIN_API_KEY": ADMIN_KEY, "PORT": "0"}
    with (directory / "serve.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.security.watched_service", str(directory / "lags")),
            cwd=Path(__file__).parents[2],
            env=bare_environment(**settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_SECONDS):
            while "serves on" not in (line := (await process.stdout.readline()).decode()):
                assert line, (directory / "serve.log").read_text()[-2000:]
        yield Service(process, int(line.rpartition(":")[2]), directory)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def store_large_execution(directory: Path) -> None:
    """Put eight megabytes of events into the service's database."""
    settings = Settings.load(data_dir=directory / "data", admin_api_key=SecretStr(ADMIN_KEY))
    rows = [{"event": {"type": "x", "text": "x" * 2000}} for _ in range(4000)]
    document: dict[str, Any] = {"executionId": EXECUTION, "status": "completed", "prompt": "x", "events": rows}
    async with open_database(settings, share=True) as database:
        await database["agent-executions"].insert_one(document)


async def run_department(http: httpx.AsyncClient) -> None:
    """Run a department to its end, or for half a minute."""
    body = {"prompt": "Write something.", "project": PROJECT}
    answer = await http.post(f"/api/v1/departments/{DEPARTMENT}/runs", json=body)
    assert answer.status_code in (200, 202), answer.text


@asynccontextmanager
async def department_runs(port: int) -> AsyncGenerator[None]:
    """Execute runs one after another, so that an attack meets a busy service."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Prefer": "wait=30"}

    async def keep_running(http: httpx.AsyncClient) -> None:
        while True:
            await run_department(http)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
        await run_department(http)  # the first one of a process takes longer
        running = asyncio.create_task(keep_running(http))
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def measure(service: Service, name: str, attacks: Callable[[Row], Any]) -> Row:
    """Run attacks beside a victim, and see what they did."""
    row, pid = Row(name), service.process.pid
    before, lost, began, share = resident_bytes(pid), len(service.lost()), time.monotonic(), Share(pid)
    async with Victim(service.port).beside() as row.latencies, watching_memory(pid) as row.grown:
        await attacks(row)
    await asyncio.sleep(SETTLE_SECONDS)
    row.stretch = share.stretch
    row.lags = service.lags(began)
    row.memory = before / MEBIBYTE, resident_bytes(pid) / MEBIBYTE
    row.lost = service.lost()[lost:]
    return row


async def measure_one(service: Service, name: str, seconds: float) -> Row:
    """One attack alone."""

    async def attack(row: Row) -> None:
        note(row, await launch(name, Target(service.port, ADMIN_KEY, seconds, EXECUTION)))

    return await measure(service, name, attack)


async def measure_mixed(service: Service, names: list[str], seconds: float, each: float) -> Row:
    """Some attacks at a time, in turns."""
    until = time.monotonic() + seconds

    async def attack_in_turns(row: Row, first: int) -> None:
        place = first
        while time.monotonic() < until:
            target = Target(service.port, ADMIN_KEY, min(each, max(until - time.monotonic(), 0.5)), EXECUTION)
            note(row, await launch(names[place % len(names)], target))
            place += AT_A_TIME

    async def attack(row: Row) -> None:
        await asyncio.gather(*(attack_in_turns(row, first) for first in range(AT_A_TIME)))

    return await measure(service, f"mixed, {AT_A_TIME} at a time, {seconds:.0f} s", attack)


def note(row: Row, outcome: Outcome) -> None:
    """Add what an attack saw."""
    row.peers = max(row.peers, outcome.peers)
    row.endings.update(outcome.endings)


async def main() -> int:
    """Attack, print the table, and say whether the goals were met."""
    mixed, each = float(os.environ.get("ATTACK_SECONDS", "300")), float(os.environ.get("EACH_SECONDS", "3"))
    chosen = [name.strip() for name in os.environ.get("ATTACKS", "").split(",") if name.strip()] or list(load())
    table = Table(
        *("attack", "peers", "/healthz p50 / p99 ms", "loop lag p99 ms", "MiB before / most / after"),
        *("CPU stretch", "lost leases", "endings"),
    )
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        async with running_service(Path(name)) as service:
            await store_large_execution(service.directory)
            async with department_runs(service.port):
                rows = [await measure(service, "none", lambda _: asyncio.sleep(each))]
                rows += [await measure_one(service, attack, each) for attack in chosen]
                rows += [await measure_mixed(service, chosen, mixed, each)] if mixed else []
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.misses else "")
        missed += [row.name] if row.misses else []
    lost = [line for row in rows for line in row.lost]
    console = Console(highlight=False)
    console.width = max(console.width, 170)
    console.print(table)
    console.print("CPU stretch: how much longer the service took because other processes ran on its processor.")
    console.print("Loop lag: how late its event loop was, without the time that its thread waited for a processor.")
    for line in lost:
        console.print(f"Lost: {line}", markup=False)
    console.print(f"Goals missed by: {', '.join(missed)}." if missed else "All goals met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
