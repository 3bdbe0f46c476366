"""The wakeups between processes: a queue in Redis (SAQ) that says that a run waits, and wakes one process with room.

Only the run's id is passed, and nothing rests on it: who runs what is decided in MongoDB, where every process looks
for itself every few seconds. What Redis loses is found there; what it says twice finds nothing to do.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from saq.job import Status
from saq.queue.redis import RedisQueue

from app.kit.redis import REDIS_ERRORS, redis_client

QUEUE_NAME = "dynamic-agents"
JOB = "wake"
LISTEN_SECONDS = 1.0
ANSWER_SECONDS = 3.0
RING_SECONDS = 1.0
HEALTHY_SECONDS = 8.0
PAUSE_SECONDS = 0.5
FULL_PAUSE_SECONDS = 0.1
DELETE_WHEN_DONE = -1

logging.getLogger("saq").setLevel(logging.WARNING)  # else two lines for each notify
log = structlog.get_logger(__name__)


class Wakeups(Protocol):
    """How processes tell each other that something waits."""

    @property
    def is_healthy(self) -> bool:
        """Whether rings are heard."""
        ...

    def notify(self, root_id: str) -> None:
        """Say that a run waits; returns at once."""
        ...


@dataclass
class RedisWakeups:
    """The wakeups of one process; `has_room` says whether it can take a run, `wake` makes it look for one."""

    url: str
    has_room: Callable[[], bool] = lambda: False
    wake: Callable[[], None] = lambda: None
    _queue: RedisQueue = field(init=False)
    _heard_at: float = field(default=0.0, init=False)
    _listener: asyncio.Task[None] | None = field(default=None, init=False)
    _notifications: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], init=False)

    def __post_init__(self) -> None:
        self._queue = RedisQueue(redis_client(self.url, answer_seconds=ANSWER_SECONDS), QUEUE_NAME)

    def start(self) -> None:
        """Listen from now on; Redis need not be there."""
        self._heard_at = asyncio.get_running_loop().time()
        self._listener = asyncio.create_task(self._listen(), name="wakeups")

    async def stop(self) -> None:
        """Listen no more, and let the last rings out."""
        if self._listener:
            self._listener.cancel()
        await asyncio.gather(
            *([self._listener] if self._listener else []), *self._notifications, return_exceptions=True
        )
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._queue.disconnect()

    @property
    def is_healthy(self) -> bool:
        """Whether Redis has answered lately."""
        return asyncio.get_running_loop().time() - self._heard_at < HEALTHY_SECONDS

    def notify(self, root_id: str) -> None:
        """Say that a run waits; where nobody can be told, this process looks itself."""
        task = asyncio.create_task(self._notify(root_id), name="notify")
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _notify(self, root_id: str) -> None:
        try:
            async with asyncio.timeout(RING_SECONDS):
                await self._queue.enqueue(JOB, key=root_id, ttl=DELETE_WHEN_DONE)
        except REDIS_ERRORS as error:
            log.warning("doorbell-out-of-order", error=type(error).__name__)
            self.wake()

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LISTEN_SECONDS + ANSWER_SECONDS):
                    await self._hear()
            except REDIS_ERRORS as error:
                log.warning("doorbell-not-heard", error=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("doorbell-crashed")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _hear(self) -> None:
        """Take one notify, if this process has room for a run; what it leaves is for others."""
        if self.has_room():
            job = await self._queue.dequeue(LISTEN_SECONDS)
            self._heard_at = asyncio.get_running_loop().time()
            if job is not None:
                self.wake()
                await job.finish(Status.COMPLETE)
        else:
            await self._queue.redis.ping()
            self._heard_at = asyncio.get_running_loop().time()
            await asyncio.sleep(FULL_PAUSE_SECONDS)
