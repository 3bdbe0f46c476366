"""Events: from append to frame, many sockets, stalled ones, replays, memory, and what an event costs as a run grows."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from rich.table import Table

from benchmarks.children import Child, running, usage_of
from benchmarks.event_sockets import EventSocket, latencies, open_sockets
from benchmarks.service import ADMIN_KEY, service_environment
from benchmarks.tables import goal, table_of

RATE, SECONDS = 200.0, 5.0
TEXT = "x" * 200
REPLAYED = 5_000
MANY = 1_000
STALLED = 50
LIMITS = {"MAX_STREAMS_PER_KEY": "3000"}
"""Two thousand sockets are open at once, all with one key."""
STALLED_TEXT = "x" * 4_000
LATENCY_GOAL_MS, ATTACHED_GOAL_SECONDS, MEMORY_GOAL_MB, IDLE_GOAL_KB = 50.0, 5.0, 512.0, 40.0


@dataclass(frozen=True)
class Spread:
    """Milliseconds from append to frame, and how late the service's event loop was meanwhile."""

    p50: float
    p99: float
    lag_p99: float
    frames_per_second: float


@dataclass
class EventBench:
    """One service and its clients."""

    child: Child
    http: aiohttp.ClientSession

    async def pull(self, do: str, **options: Any) -> tuple[Any, float]:  # noqa: ANN401 - any JSON value
        """Let the service do something; what it gives back, and its event loop's lag."""
        async with self.http.post(f"{self.child.url}/pull", json={"do": do, **options}) as answer:
            assert answer.status == 200, await answer.text()
            body = await answer.json()
        return body["result"], body["lag_p99_ms"]

    async def trees(self, count: int) -> list[str]:
        """New run trees."""
        return [(await self.pull("new_tree"))[0] for _ in range(count)]

    async def open(self, ids: list[str], count: int = 1) -> list[EventSocket]:
        """So many subscribed sockets for each tree."""
        sockets = await open_sockets(self.child.url, ADMIN_KEY, [one for one in ids for _ in range(count)])
        await asyncio.gather(*(socket.has_seen(0) for socket in sockets))
        return sockets

    async def live(self, sockets: list[EventSocket], ids: list[str], *, text: str = TEXT) -> Spread:
        """Append for a few seconds and wait until everything has come everywhere."""
        appended, lag = await self.pull("append", ids=ids, rate=RATE, seconds=SECONDS, text=text)
        async with asyncio.timeout(120):
            await asyncio.gather(*(one.has_seen(len(appended[one.execution_id or ""])) for one in sockets))
        found = latencies(sockets, appended)
        return Spread(found[len(found) // 2], found[int(len(found) * 0.99)], lag, len(found) / SECONDS)

    async def fan_out(self, subscribers: int) -> Spread:
        """Subscribers of one run."""
        ids = await self.trees(1)
        sockets = await self.open(ids, subscribers)
        try:
            return await self.live(sockets, ids)
        finally:
            await close_all(sockets)

    async def many_runs(self) -> Spread:
        """A thousand runs with one subscriber each."""
        ids = await self.trees(MANY)
        sockets = await self.open(ids)
        try:
            return await self.live(sockets, ids)
        finally:
            await close_all(sockets)

    async def beside_stalled(self) -> tuple[Spread, Spread]:
        """Fifty that read, alone and then beside fifty that do not."""
        ids = await self.trees(1)
        sockets = await self.open(ids, STALLED)
        alone = await self.live(sockets, ids, text=STALLED_TEXT)
        await close_all(sockets)
        ids = await self.trees(1)
        readers, stalled = await self.open(ids, STALLED), await self.open(ids, STALLED)
        for one in stalled:
            assert one.transport is not None
            one.transport.pause_reading()
        beside = await self.live(readers, ids, text=STALLED_TEXT)
        await close_all([*readers, *stalled])
        return alone, beside

    async def reconnect(self) -> tuple[float, float]:
        """A thousand sockets at once that replay 5,000 events; seconds until the p99 has all, and the service's MiB."""
        execution_id, _ = await self.pull("fill", count=REPLAYED, text=TEXT)
        started = time.monotonic_ns()
        sockets = await open_sockets(self.child.url, ADMIN_KEY, [execution_id] * MANY)
        peak = 0.0

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, usage_of(self.child.process.pid).resident_mb)
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        async with asyncio.timeout(120):
            await asyncio.gather(*(one.has_seen(REPLAYED) for one in sockets))
        watching.cancel()
        took = sorted((one.chunks[-1][0] - started) / 1e9 for one in sockets)
        await close_all(sockets)
        return took[int(MANY * 0.99)], peak

    async def idle_kilobytes(self) -> float:
        """Measure the service's memory per socket that follows a quiet run, in kilobytes."""
        ids = await self.trees(1)
        await close_all(await self.open(ids, MANY))  # what the first thousand leave behind is not the second's
        before = usage_of(self.child.process.pid).resident_mb
        sockets = await self.open(ids, MANY)
        await asyncio.sleep(1.0)
        after = usage_of(self.child.process.pid).resident_mb
        fresh = await self.open(ids, MANY)
        await asyncio.sleep(1.0)
        last = usage_of(self.child.process.pid).resident_mb
        await close_all([*sockets, *fresh])
        return max(after - before, last - after) * 1024 / MANY


async def close_all(sockets: list[EventSocket]) -> None:
    """Cut the connections."""
    for socket in sockets:
        if socket.transport:
            socket.transport.abort()
    await asyncio.sleep(0.5)


def event_tables() -> Iterator[Table]:
    """All of them."""
    yield from uvloop.run(measure())


async def measure() -> list[Table]:
    """Measure on one service, the memory of idle sockets first, while it is fresh."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "benchmarks.event_service"]
        with running("event-service", command, service_environment(directory) | LIMITS, directory) as child:
            child.wait_until_ready("/healthz")
            timeout = aiohttp.ClientTimeout(total=300)
            async with aiohttp.ClientSession(timeout=timeout) as http:
                bench = EventBench(child, http)
                idle = await bench.idle_kilobytes()
                return [await latency_table(bench), await sockets_table(bench, idle), await growth_table(bench)]


async def latency_table(bench: EventBench) -> Table:
    """From append to frame."""
    table = table_of("From append to frame, ms", "p50", "p99", "loop lag p99", "frames/s")
    for subscribers in (1, 100, MANY):
        found = await bench.fan_out(subscribers)
        table.add_row(f"{subscribers:,} subscribers of one run, 200 events/s", *spread_cells(found, LATENCY_GOAL_MS))
    table.add_row(
        "1,000 runs with one subscriber each, 200 events/s in all", *spread_cells(await bench.many_runs(), None)
    )
    alone, beside = await bench.beside_stalled()
    table.add_row("50 that read, events of 4 KB", *spread_cells(alone, None))
    table.add_row("the same beside 50 that do not", *spread_cells(beside, 2 * alone.p99))
    return table


def spread_cells(found: Spread, limit: float | None) -> list[str]:
    """The figures of a row; the p99 may have a goal."""
    p99 = f"{found.p99:.1f}"
    shown = p99 if limit is None else goal(p99, met=found.p99 < limit)
    return [f"{found.p50:.1f}", shown, f"{found.lag_p99:.1f}", f"{found.frames_per_second:,.0f}"]


async def sockets_table(bench: EventBench, idle: float) -> Table:
    """Many sockets at once."""
    attached, memory = await bench.reconnect()
    table = table_of("Sockets", "figure", "goal")
    table.add_row(
        "1,000 reconnect at once, replay of 5,000 events: attached p99, s",
        goal(f"{attached:.2f}", met=attached < ATTACHED_GOAL_SECONDS),
        f"< {ATTACHED_GOAL_SECONDS:.0f}",
    )
    table.add_row(
        "the service's memory meanwhile, MiB",
        goal(f"{memory:.0f}", met=memory < MEMORY_GOAL_MB),
        f"< {MEMORY_GOAL_MB:.0f}",
    )
    table.add_row("an idle socket, KiB", goal(f"{idle:.1f}", met=idle < IDLE_GOAL_KB), f"< {IDLE_GOAL_KB:.0f}")
    return table


async def growth_table(bench: EventBench) -> Table:
    """Measure the cost of an event as a run grows."""
    growth, _ = await bench.pull("growth")
    large, lag = await bench.pull("large_run")
    table = table_of("As a run grows", "figure")
    for count, milliseconds in growth.items():
        table.add_row(f"ms an event, in groups of 20, after {int(count):,}", f"{milliseconds:.3f}")
    table.add_row("40,000 events of 1 KB stored in, s", f"{large['seconds']:.1f}")
    table.add_row("of them replayed", f"{large['replayed']:,.0f}")
    table.add_row("the largest document, MiB", goal(f"{large['largest_mb']:.2f}", met=large["largest_mb"] < 12))
    table.add_row(
        "a page of 500 replayed, ms: early, late", f"{large['first_page_ms']:.1f}, {large['last_page_ms']:.1f}"
    )
    table.add_row("event-loop lag meanwhile, p99 ms", f"{lag:.1f}")
    return table
