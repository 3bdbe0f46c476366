"""The watch of a process over approvals: decisions that its trees wait for, and approvals whose time is over."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pymongo.errors import PyMongoError

from app.kit.concurrency import end_tasks
from app.services.runs.approvals.store import ApprovalStore
from app.services.runs.approvals.waits import TreeWaits

LOOK_SECONDS = 0.4
"""How often decisions are looked up while calls wait in this process."""
EXPIRE_SECONDS = 1.0
"""How often approvals are expired."""

log = structlog.get_logger(__name__)


@dataclass
class ApprovalWatch:
    """The loops of one process; `waits` returns the waits of the trees that it owns.

    `on_available` is called with the root of each tree in which an approval has expired.
    """

    store: ApprovalStore
    waits: Callable[[], Iterable[TreeWaits]]
    server_now: Callable[[], datetime]
    on_available: Callable[[str], None]
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]], init=False)

    def start(self) -> None:
        """Start looking for decisions and expiring approvals."""
        self._tasks = [
            asyncio.create_task(self._look(), name="approval watch"),
            asyncio.create_task(self._expire(), name="approval expiry"),
        ]

    async def stop(self) -> None:
        """Stop both loops."""
        await end_tasks(*self._tasks)

    def look_now(self) -> None:
        """Look for decisions now, because one was made in this process."""
        self._wake.set()

    async def look(self) -> None:
        """Wake the calls of this process whose approvals are no longer pending."""
        awaited = {name: event for waits in self.waits() for name, event in waits.decided.items() if not event.is_set()}
        if not awaited:
            return
        pending = await self.store.find_pending(awaited.keys())
        for name, event in awaited.items():
            if name not in pending:
                event.set()

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.look()
            except PyMongoError as error:
                log.warning("approval-read-failed", error=type(error).__name__)
            except Exception:
                log.exception("approval-watch-crashed")

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            try:
                for root_id in await self.store.expire_due(self.server_now()):
                    log.info("approval-expired", executionId=root_id)
                    self.on_available(root_id)
            except PyMongoError as error:
                log.warning("approval-expiry-failed", error=type(error).__name__)
            except Exception:
                log.exception("approval-expiry-crashed")
