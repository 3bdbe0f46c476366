"""Random hostile tools: `python -m tests.services.tools.sandbox.fuzz --seconds 600` (`make fuzz`).

Every call must end in a result or a known error within its limit and half a second, and the sandbox must answer the
next one; at the end no process, descriptor or memory may be left behind. A call that breaks this is printed with its
seed, which alone makes it again.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.replies import EGRESS_CODES, MESSAGES
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from tests.services.tools.sandbox.hostile import RESULT, SNIPPETS

LIMIT_SECONDS = 0.3
ALLOWED_MS = (LIMIT_SECONDS + 0.5) * 1000
WORKERS = 2
KNOWN = {
    *MESSAGES,
    *EGRESS_CODES,
    "tool-syntax-error",
    "tool-result-invalid",
    "tool-error",
    "tool-input-invalid",
    RESULT,
}
CODES = [code for code, _ in SNIPPETS.values()]
WRAPPERS = [
    "async (i, c) => {{ await 0; return ({0})(i, c) }}",
    "(i, c) => {{ try {{ return ({0})(i, c) }} catch (e) {{ return ({1})(i, c) }} }}",
    "(i, c) => new Promise(done => setTimeout(() => done(({0})(i, c)), 1))",
    "(i, c) => Promise.race([({0})(i, c), ({1})(i, c)])",
    "(i, c) => ({{ get a() {{ return ({0})(i, c) }}, toJSON() {{ return ({1})(i, c) }} }})",
    "(i, c) => new Proxy(() => 1, {{ apply: () => ({0})(i, c), get: () => ({1})(i, c) }})",
    "(i, c) => {{ queueMicrotask(() => ({0})(i, c)); return ({1})(i, c) }}",
    "(i, c) => structuredClone({{ a: ({0})(i, c), b: new Map([[1, ({1})(i, c)]]) }})",
    "(i, c) => {{ console.log(({0})(i, c)); return ({1})(i, c) }}",
    "(i, c) => [({0})(i, c), ({1})(i, c)].flat(Infinity)",
    "(i, c) => {{ for (let n = 0; n < 1e4; n++) ({0})(i, c); return ({1})(i, c) }}",
    "function* all(i, c) {{ yield* [({0})(i, c), ({1})(i, c)] }}",
    "(i, c) => Reflect.construct(function () {{ return ({0})(i, c) }}, [], Object)",
    "(i, c) => {{ Object.prototype.toJSON = () => ({0})(i, c); return ({1})(i, c) }}",
]
PIECES = [
    *("for (;;) {}", "await 0;", "return i;", "throw i;", "}", "{", "(", ")", "=>", "`${", "/*", "//", "'", "\\u0000"),
    *("globalThis", "constructor", "__proto__", "prototype", "new ArrayBuffer(1e8)", "'x'.repeat(1e7)", "2n ** 99999n"),
    *(
        "Symbol.iterator",
        "Promise.reject(1)",
        "setInterval(() => {}, 0)",
        "c.fetch('http://[::1]/')",
        "\ud800",
        "\u2028",
    ),
    *(
        "crypto.getRandomValues(new Uint8Array(65536))",
        "new URL('http://a')",
        "Array(1e9)",
        "eval(i)",
        "debugger",
        "with",
    ),
]


@dataclass
class Tally:
    """The outcomes of all calls."""

    endings: Counter[str] = field(default_factory=Counter[str])
    durations: list[float] = field(default_factory=list[float])
    lags: list[float] = field(default_factory=list[float])
    late: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    broken: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


def program(seed: int) -> str:
    """A hostile tool: known ones put into one another, then cut, doubled and mixed with pieces of others."""
    chance = random.Random(seed)  # noqa: S311 - a program that can be made again is the point
    code = chance.choice(CODES)
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        code = chance.choice(WRAPPERS).format(code, chance.choice(CODES))
    for _ in range(chance.choice((0, 0, 0, 1, 2, 5))):
        at, to = sorted(chance.randrange(len(code) + 1) for _ in range(2))
        to = min(to, at + 40)
        piece = chance.choice(PIECES)
        mutants = (
            code[:at] + code[to:],
            code[:to] + code[at:to] + code[to:],
            code[:at] + piece + code[at:],
            code[:at] + piece + code[to:],
        )
        code = chance.choice(mutants)
    return code[:100_000]


async def attack(sandbox: ToolSandbox, first_seed: int, until: float, tally: Tally) -> None:
    """Call one random tool after the other."""
    seed = first_seed
    while time.monotonic() < until:
        seed += WORKERS
        try:
            outcome = await sandbox.run(ToolInvocation(program(seed), {"seed": seed}, {}))
            ending, milliseconds = RESULT, outcome.duration_ms
        except ToolFailed as error:
            ending, milliseconds = error.code, error.duration_ms or 0.0
        tally.endings[ending] += 1
        tally.durations.append(milliseconds)
        if milliseconds > ALLOWED_MS:
            tally.late.append((seed, milliseconds))
        if ending not in KNOWN:
            tally.broken.append((seed, ending))
        if seed % 50 < WORKERS and (await sandbox.run(ToolInvocation("i => i", seed, {}))).output != seed:
            tally.broken.append((seed, "the next call was answered wrongly"))


async def watch_lag(until: float, tally: Tally) -> None:
    """The lag of the event loop after short sleeps, in milliseconds."""
    while time.monotonic() < until:
        started = time.monotonic()
        await asyncio.sleep(0.005)
        tally.lags.append((time.monotonic() - started - 0.005) * 1000)


def belongings() -> tuple[int, int]:
    """Descriptors and resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")


def child_count() -> int:
    """The number of running child processes."""
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def fuzz(seconds: float, seed: int) -> bool:
    """Attack for so long and print what came of it; whether everything held."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    sandbox, tally = ToolSandbox(timeout_seconds=LIMIT_SECONDS, memory_mb=64, workers=WORKERS), Tally()
    await sandbox.start()
    files, before = belongings()
    until = time.monotonic() + seconds
    attacks = (attack(sandbox, seed + number, until, tally) for number in range(WORKERS))
    await asyncio.gather(watch_lag(until, tally), *attacks)
    await sandbox.close()
    files_after, after = belongings()
    report(tally, seed, after - before)
    left = (child_count(), max(files_after - files, 0))
    print(f"left behind: {left[0]} processes, {left[1]} descriptors")  # noqa: T201 - a command's own voice
    return not tally.broken and left == (0, 0) and not tally.endings["tool-busy"]


def report(tally: Tally, seed: int, grown_bytes: int) -> None:
    """Print the figures."""
    calls = len(tally.durations)
    lags, durations = sorted(tally.lags), sorted(tally.durations)
    lines = [
        f"seed {seed}: {calls} calls",
        "endings: " + ", ".join(f"{name} {count}" for name, count in tally.endings.most_common()),
        f"duration ms: median {statistics.median(durations):.1f}, p99 {durations[calls * 99 // 100]:.0f}, "
        f"max {durations[-1]:.0f}; past limit + 0.5 s: {len(tally.late)} {tally.late[:5]}",
        f"event-loop lag ms: p50 {lags[len(lags) // 2]:.2f}, p99 {lags[len(lags) * 99 // 100]:.2f}, max {lags[-1]:.1f}",
        f"service's memory grew by {grown_bytes / 2**20:.1f} MiB; broken: {tally.broken[:20]}",
    ]
    print("\n".join(lines))  # noqa: T201 - a command's own voice


def main() -> None:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(description="Run random hostile tools in the sandbox.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(fuzz(given.seconds, given.seed)) else 1)


if __name__ == "__main__":
    main()
