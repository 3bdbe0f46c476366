"""Wake-ups between processes: a queue in Redis (SAQ) on which one process announces a waiting run to those with room.

A wake-up carries only the run's id, and nothing depends on it: MongoDB decides which process runs what, and every
process looks there every few seconds. A lost wake-up costs a few seconds, and a repeated one finds nothing to do.
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

from app.kit.concurrency import end_tasks
from app.kit.redis import REDIS_ERRORS, redis_client

QUEUE_NAME = "dynamic-agents"
JOB = "wake"
DELETE_WHEN_DONE = -1

logging.getLogger("saq").setLevel(logging.WARNING)  # otherwise each wake-up logs two lines
log = structlog.get_logger(__name__)


class WakeupTarget(Protocol):
    """The part of a process that takes waiting runs."""

    @property
    def room(self) -> int:
        """The number of runs that it can take."""
        ...

    def wake(self) -> None:
        """Look for one more waiting run."""
        ...


class Wakeups(Protocol):
    """Announces waiting runs to other processes, and receives their announcements."""

    def start(self) -> None:
        """Start receiving wake-ups."""
        ...

    async def stop(self) -> None:
        """Stop receiving, after the last announcements are sent."""
        ...

    @property
    def is_healthy(self) -> bool:
        """Whether wake-ups are received."""
        ...

    def notify(self, root_id: str) -> None:
        """Announce that a run waits; returns at once."""
        ...


OpenWakeups = Callable[[WakeupTarget], Wakeups]


@dataclass(frozen=True)
class WakeupTimings:
    """Intervals and limits of wake-ups, in seconds."""

    listen_seconds: float = 1.0
    """How long one read waits for a wake-up."""
    answer_seconds: float = 3.0
    """How long Redis may take beyond that."""
    notify_seconds: float = 1.0
    """How long an announcement may take."""
    healthy_seconds: float = 8.0
    """How long after Redis's last answer the wake-ups count as healthy."""
    retry_pause_seconds: float = 0.5
    full_pause_seconds: float = 0.1
    """The pause between two checks of a process without room."""


DEFAULT_WAKEUP_TIMINGS = WakeupTimings()


@dataclass
class RedisWakeups:
    """The wake-ups of one process, which wake its `target`."""

    url: str
    target: WakeupTarget
    timings: WakeupTimings = DEFAULT_WAKEUP_TIMINGS
    _queue: RedisQueue = field(init=False)
    _answered_at: float = field(default=0.0, init=False)
    _listener: asyncio.Task[None] | None = field(default=None, init=False)
    _notifications: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]], init=False)

    def __post_init__(self) -> None:
        redis = redis_client(self.url, answer_seconds=self.timings.answer_seconds)
        self._queue = RedisQueue(redis, QUEUE_NAME)

    def start(self) -> None:
        """Start receiving wake-ups; Redis may be unavailable."""
        self._answered_at = asyncio.get_running_loop().time()
        self._listener = asyncio.create_task(self._listen(), name="wakeups")

    async def stop(self) -> None:
        """Stop receiving, after the last announcements are sent."""
        await end_tasks(self._listener)
        await asyncio.gather(*self._notifications, return_exceptions=True)
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(self.timings.answer_seconds):
                await self._queue.disconnect()

    @property
    def is_healthy(self) -> bool:
        """Whether Redis has answered recently."""
        return asyncio.get_running_loop().time() - self._answered_at < self.timings.healthy_seconds

    def notify(self, root_id: str) -> None:
        """Announce that a run waits; if Redis is unavailable, this process checks the queue itself."""
        task = asyncio.create_task(self._notify(root_id), name="notify")
        self._notifications.add(task)
        task.add_done_callback(self._notifications.discard)

    async def _notify(self, root_id: str) -> None:
        try:
            async with asyncio.timeout(self.timings.notify_seconds):
                await self._queue.enqueue(JOB, key=root_id, ttl=DELETE_WHEN_DONE)
        except REDIS_ERRORS as error:
            log.warning("wakeup-publish-failed", error=type(error).__name__)
            self.target.wake()

    async def _listen(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.timings.listen_seconds + self.timings.answer_seconds):
                    await self._receive()
            except REDIS_ERRORS as error:
                log.warning("wakeup-read-failed", error=type(error).__name__)
                await asyncio.sleep(self.timings.retry_pause_seconds)
            except Exception:
                log.exception("wakeup-listener-crashed")
                await asyncio.sleep(self.timings.retry_pause_seconds)

    async def _receive(self) -> None:
        """Take one wake-up if this process has room for a run; otherwise leave it to others."""
        if self.target.room:
            job = await self._queue.dequeue(self.timings.listen_seconds)
            self._answered_at = asyncio.get_running_loop().time()
            if job is not None:
                self.target.wake()
                await job.finish(Status.COMPLETE)
        else:
            await self._queue.redis.ping()
            self._answered_at = asyncio.get_running_loop().time()
            await asyncio.sleep(self.timings.full_pause_seconds)
