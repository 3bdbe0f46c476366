"""Tool calls in the sandbox: what one costs, how many fit into a second, and what the service feels of hostile ones."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import JsonValue
from rich.table import Table

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from benchmarks.children import usage_of
from benchmarks.tables import goal, table_of

CALLS = 500
PAUSE_SECONDS = 0.005
BUSY_SECONDS = 5.0
HOSTILE_SECONDS = 10.0
LATENCY_GOAL_MS = 5.0
LAG_GOAL_MS = 50.0
KILL_SECONDS = 0.3
SEEDS = Path(__file__).parents[1] / "seeds" / "custom-tools"
TEXT = "A keeper lights the lamp. The sea answers. " * 20
TOOLS: dict[str, tuple[str, JsonValue]] = {
    "input => input": ("input => input", {"a": 1}),
    "async, one await": ("async input => { await null; return input }", {"a": 1}),
    "textStatistics, 860 characters": (SEEDS.joinpath("textStatistics", "execute.js").read_text(), {"text": TEXT}),
}
# Its own work takes most of its time.
WORKING = frozenset({"textStatistics, 860 characters"})
HOSTILE = (
    "() => { for (;;) {} }",
    "() => 'a'.repeat(5e6).indexOf('a'.repeat(2e6) + 'b')",
    "() => { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1)) }",
    "() => 'x'.repeat(250000)",
    "() => { for (let i = 0; i < 1e5; i++) console.log('x'.repeat(100)) }",
)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call."""

    p50: float
    p99: float

    @classmethod
    def of(cls, milliseconds: list[float]) -> "Latency":
        """Of so many."""
        ordered = sorted(milliseconds)
        return cls(statistics.median(ordered), ordered[len(ordered) * 99 // 100])


def tools_tables() -> Iterator[Table]:
    """Latency, throughput, cold start and memory; then the service's event loop beside hostile tools."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with asyncio.Runner() as runner:
        yield runner.run(calls_table())
        yield runner.run(workers_table())


async def calls_table() -> Table:
    """One call at a time with a moment between, then as many as two workers take."""
    table = table_of("Tool calls, warm, two workers", "ms p50", "p99", "calls/s at 16")
    async with sandbox(timeout_seconds=10) as box:
        for name, (code, value) in TOOLS.items():
            invocation = ToolInvocation(code, value, {"executionId": "e", "agentId": "a", "department": "d"})
            latency = Latency.of([await time_call(box, invocation) for _ in range(CALLS)])
            p50 = (
                f"{latency.p50:.2f}"
                if name in WORKING
                else goal(f"{latency.p50:.2f}", met=latency.p50 < LATENCY_GOAL_MS)
            )
            table.add_row(name, p50, f"{latency.p99:.2f}", f"{await throughput(box, invocation):.0f}")
    return table


async def workers_table() -> Table:
    """Measure the cost of workers, and the cost of hostile tools for the service."""
    table = table_of("Workers", "figure", "goal")
    started = time.perf_counter()
    async with sandbox(timeout_seconds=KILL_SECONDS, workers=1) as box:
        table.add_row("seconds until the first worker is warm", f"{time.perf_counter() - started:.2f}", "")
        await asyncio.gather(*(box.run(ToolInvocation("i => i", 1, {})) for _ in range(50)))
        table.add_row("MiB a worker", f"{usage_of(box.worker_pids[0]).resident_mb:.0f}", "")
    async with sandbox(timeout_seconds=KILL_SECONDS) as box:
        quiet, calls = await lag_beside(box, ("i => i",))
        table.add_row("event-loop lag beside idle tools, ms p99", f"{quiet.p99:.1f}", f"{calls} calls")
        lag, calls = await lag_beside(box, HOSTILE)
        shown = goal(f"{lag.p99:.1f}", met=lag.p99 < LAG_GOAL_MS)
        table.add_row("event-loop lag beside hostile tools, ms p99", shown, f"< {LAG_GOAL_MS:.0f} ({calls} calls)")
    return table


@contextlib.asynccontextmanager
async def sandbox(*, timeout_seconds: float, workers: int = 2) -> AsyncGenerator[ToolSandbox]:
    """A sandbox of its own."""
    box = ToolSandbox(timeout_seconds=timeout_seconds, memory_mb=64, workers=workers)
    await box.start()
    try:
        yield box
    finally:
        await box.close()


async def time_call(box: ToolSandbox, invocation: ToolInvocation) -> float:
    """Milliseconds of one call, after a pause in which its worker made itself ready."""
    await asyncio.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    await box.run(invocation)
    return (time.perf_counter() - started) * 1000


async def throughput(box: ToolSandbox, invocation: ToolInvocation) -> float:
    """Calls a second of sixteen callers."""
    until, done = time.monotonic() + BUSY_SECONDS, 0

    async def keep_calling() -> None:
        nonlocal done
        while time.monotonic() < until:
            await box.run(invocation)
            done += 1

    await asyncio.gather(*(keep_calling() for _ in range(16)))
    return done / BUSY_SECONDS


async def lag_beside(box: ToolSandbox, codes: tuple[str, ...]) -> tuple[Latency, int]:
    """How late the event loop comes back from short naps while these tools run, and how many ran."""
    until, lags, calls = time.monotonic() + HOSTILE_SECONDS, list[float](), 0

    async def keep_calling(code: str) -> None:
        nonlocal calls
        while time.monotonic() < until:
            with contextlib.suppress(ToolFailed):
                await box.run(ToolInvocation(code, None, {}))
            calls += 1

    async def nap() -> None:
        while time.monotonic() < until:
            started = time.perf_counter()
            await asyncio.sleep(PAUSE_SECONDS)
            lags.append((time.perf_counter() - started - PAUSE_SECONDS) * 1000)

    await asyncio.gather(nap(), *map(keep_calling, codes))
    return Latency.of(lags), calls
