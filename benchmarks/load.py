"""Load on a server: so many clients at once, and what each took and cost."""

import asyncio
import statistics
import time
from dataclasses import dataclass

import aiohttp

from benchmarks.children import Usage, usage_of

REQUEST_SECONDS = 60.0


class WrongAnswer(Exception):
    """A server answered something else than the end of the run."""


@dataclass(frozen=True)
class Target:
    """A path to post to, the process that answers, and a text that every good answer holds."""

    name: str
    url: str
    pid: int
    headers: dict[str, str]
    body: bytes
    expected: bytes


@dataclass(frozen=True)
class Sample:
    """One measurement: how long each request took, all together, and the CPU milliseconds that a request cost."""

    milliseconds: list[float]
    per_second: float
    own_cpu_ms: float
    database_cpu_ms: float
    other_cpu_ms: float

    @property
    def median_ms(self) -> float:
        """The middle request."""
        return statistics.median(self.milliseconds)

    @property
    def p95_ms(self) -> float:
        """Nineteen in twenty are faster."""
        return statistics.quantiles(self.milliseconds, n=20)[-1]


async def drive(http: aiohttp.ClientSession, target: Target, *, seconds: float, at_once: int) -> Sample:
    """Post for so many seconds, `at_once` at any time, each client at least once.

    Raises:
        WrongAnswer: an answer is not what it should be.
    """
    before = usage_of(target.pid)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(post_until(http, target, started + seconds)) for _ in range(at_once)]
    took = time.perf_counter() - started
    milliseconds = [one for client in clients for one in client.result()]
    return sample_of(milliseconds, took, before, usage_of(target.pid))


async def post_until(http: aiohttp.ClientSession, target: Target, end: float) -> list[float]:
    """Post until a moment of the performance counter; the milliseconds of each."""
    took: list[float] = []
    while not took or time.perf_counter() < end:
        started = time.perf_counter()
        async with http.post(target.url, data=target.body, headers=target.headers) as answer:
            content = await answer.read()
        took.append((time.perf_counter() - started) * 1000)
        if answer.status != 200 or target.expected not in content:
            raise WrongAnswer(f"{target.name} answered {answer.status}: {content[:500].decode(errors='replace')}")
    return took


async def post_many(http: aiohttp.ClientSession, target: Target, *, count: int, at_once: int) -> float:
    """Post so many times, `at_once` at any time; posts a second.

    Raises:
        WrongAnswer: an answer is not what it should be.
    """
    left = iter(range(count))
    started = time.perf_counter()

    async def client() -> None:
        for _ in left:
            await post_until(http, target, end=0)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(client())
    return count / (time.perf_counter() - started)


def sample_of(milliseconds: list[float], seconds: float, before: Usage, after: Usage) -> Sample:
    """The figures of a measurement."""
    count = len(milliseconds)
    return Sample(
        milliseconds=milliseconds,
        per_second=count / seconds,
        own_cpu_ms=(after.own_seconds - before.own_seconds) * 1000 / count,
        database_cpu_ms=(after.database_seconds - before.database_seconds) * 1000 / count,
        other_cpu_ms=(after.other_seconds - before.other_seconds) * 1000 / count,
    )


def client_session() -> aiohttp.ClientSession:
    """A client without a bound on its connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    )
