"""The settings of every Redis client: short timeouts and no retries, because every caller can work without Redis.

Events are read from MongoDB, waiting runs are found by polling, and rate limits are counted in the process. A retry or
a health check of idle connections would only delay that.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.0
REDIS_ERRORS = (RedisError, OSError, TimeoutError)
"""The errors of a Redis that is unavailable, slow, or refuses a command."""


def redis_client(url: str, *, answer_seconds: float = ANSWER_SECONDS) -> Redis:
    """Return a client that connects on first use; commands that block on purpose need more `answer_seconds`."""
    return Redis.from_url(
        url,
        socket_timeout=answer_seconds,
        socket_connect_timeout=min(answer_seconds, CONNECT_SECONDS),
        retry=Retry(NoBackoff(), 0),
    )
