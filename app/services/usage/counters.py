"""Counters of attempts over a moving window: in this process, or in Redis for all processes together."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from limits import RateLimitItem, WindowStats
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from app.kit.redis import REDIS_ERRORS, redis_client

ANSWER_SECONDS = 0.5
RECOVERY_SECONDS = 5.0
"""How long a process counts by itself after Redis has failed."""
KEY_PREFIX = "dynamic-agents:limits"

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class WindowCounter:
    """Counts in this process."""

    def __init__(self) -> None:
        self._own = MovingWindowRateLimiter(MemoryStorage())

    async def hit(self, limit: RateLimitItem, key: str) -> bool:
        """Count an attempt unless the limit is reached, and return whether it was counted."""
        return await self._call(lambda counts: counts.hit(limit, key))

    async def test(self, limit: RateLimitItem, key: str) -> bool:
        """Return whether another attempt would be counted."""
        return await self._call(lambda counts: counts.test(limit, key))

    async def stats(self, limit: RateLimitItem, key: str) -> WindowStats:
        """Return how many attempts are left, and when the window resets."""
        return await self._call(lambda counts: counts.get_window_stats(limit, key))

    async def _call(self, call: Callable[[MovingWindowRateLimiter], Awaitable[Answer]]) -> Answer:
        return await call(self._own)


class SharedWindowCounter(WindowCounter):
    """Counts in Redis for all processes; while Redis is unavailable, each process counts by itself."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._redis = redis_client(redis_url, answer_seconds=ANSWER_SECONDS)
        # The pool has the address; the storage requires a URI of its own and ignores it.
        pool: dict[str, object] = {"connection_pool": self._redis.connection_pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=KEY_PREFIX, **pool)  # pyright: ignore[reportArgumentType] - passed through to redis-py
        self._shared = MovingWindowRateLimiter(storage)
        self._alone_until = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _call(self, call: Callable[[MovingWindowRateLimiter], Awaitable[Answer]]) -> Answer:
        now = asyncio.get_running_loop().time
        if now() >= self._alone_until:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await call(self._shared)
            except REDIS_ERRORS as error:
                self._alone_until = now() + RECOVERY_SECONDS
                log.warning("rate-limit-local-fallback", error=type(error).__name__)
        return await super()._call(call)


@asynccontextmanager
async def open_counter(redis_url: str | None) -> AsyncGenerator[WindowCounter]:
    """Open a counter for all processes that share a Redis, else for this process."""
    if redis_url is None:
        yield WindowCounter()
        return
    counter = SharedWindowCounter(redis_url)
    try:
        yield counter
    finally:
        await counter.close()
