"""Where attempts are counted: in this process, or in Redis for all processes together."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from limits import RateLimitItem, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

ANSWER_SECONDS = 0.5
AWAY_SECONDS = 5.0
"""How long a Redis that did not answer is left alone."""
KEY_PREFIX = "dynamic-agents:limits"

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class WindowCounter:
    """Counts in this process, over a moving window."""

    def __init__(self) -> None:
        self._own = MovingWindowRateLimiter(MemoryStorage())

    async def hit(self, limit: RateLimitItem, who: str) -> bool:
        """Count one, unless the limit is reached; whether it was counted."""
        return await self._ask(lambda counts: counts.hit(limit, who))

    async def test(self, limit: RateLimitItem, who: str) -> bool:
        """Whether one more would be counted."""
        return await self._ask(lambda counts: counts.test(limit, who))

    async def stats(self, limit: RateLimitItem, who: str) -> WindowStats:
        """How much room there is, and when there is more."""
        return await self._ask(lambda counts: counts.get_window_stats(limit, who))

    async def _ask(self, question: Callable[[MovingWindowRateLimiter], Awaitable[Answer]]) -> Answer:
        return await question(self._own)


class SharedWindowCounter(WindowCounter):
    """Counts of all processes, in Redis; while it is away each process counts by itself."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._pool = ConnectionPool.from_url(
            redis_url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        pool: dict[str, object] = {"connection_pool": self._pool}  # it says where; the storage's own URI does not
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=KEY_PREFIX, **pool)  # pyright: ignore[reportArgumentType] - handed on as it is
        self._shared = MovingWindowRateLimiter(storage)
        self._away_until = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _ask(self, question: Callable[[MovingWindowRateLimiter], Awaitable[Answer]]) -> Answer:
        now = asyncio.get_running_loop().time
        if now() >= self._away_until:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await question(self._shared)
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until = now() + AWAY_SECONDS
                log.warning("limits-counted-alone", error=type(error).__name__)
        return await super()._ask(question)


@asynccontextmanager
async def open_counter(redis_url: str | None) -> AsyncGenerator[WindowCounter]:
    """A counter for all processes together if they share a Redis, else for this process."""
    if redis_url is None:
        yield WindowCounter()
        return
    counter = SharedWindowCounter(redis_url)
    try:
        yield counter
    finally:
        await counter.close()
