"""Keeping the leases of what runs here, from the event loop that runs it: a loop that hangs loses them.

Whatever stops a process from renewing (a database out of reach, a machine that slept), it stops its runs before
anybody else can take them; and it hears within half a second that somebody took a tree over or cancelled it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.services.runs.engine.leases import LEASE_SECONDS, Leases

RENEW_EVERY_SECONDS = 4.0
WATCH_EVERY_SECONDS = 0.4
ANSWER_SECONDS = 3.0
GIVE_UP_SECONDS = LEASE_SECONDS - 5.0
"""After so long without a renewal the runs are stopped: their leases last a little longer."""

log = structlog.get_logger(__name__)


@dataclass
class LeaseRenewer:
    """The loops of one process; `fences` gives the trees that it owns, `lose` stops one of them."""

    leases: Leases
    fences: Callable[[], Mapping[str, int]]
    lose: Callable[[str, str], None]
    _renewed: float = field(default=0.0, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]], init=False)

    async def start(self) -> None:
        """Read the database's clock, and keep leases from now on."""
        await self._renew()
        self._tasks = [
            asyncio.create_task(self._keep(), name="lease renewer"),
            asyncio.create_task(self._watch(), name="fence watcher"),
        ]

    async def stop(self) -> None:
        """Stop the loops; what is held runs out in its time unless it is handed over."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def holds(self) -> bool:
        """Whether what this process owns is surely still its own, by the monotonic clock."""
        return now() - self._renewed < GIVE_UP_SECONDS

    @property
    def is_healthy(self) -> bool:
        """Whether leases are kept."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks) and self.holds

    async def _renew(self) -> None:
        began = now()
        async with asyncio.timeout(ANSWER_SECONDS):
            if owned := list(self.fences()):
                await self.leases.renew(owned)
            await self.leases.read_clock()
        self._renewed = began

    async def _keep(self) -> None:
        while True:
            if not self.holds:  # before it renews: others may have run meanwhile what would look held again
                self._give_up()
            try:
                await self._renew()
            except (PyMongoError, TimeoutError) as error:
                log.warning("leases-not-kept", error=type(error).__name__)
            except Exception:
                log.exception("lease-keeper-crashed")
            await asyncio.sleep(RENEW_EVERY_SECONDS if now() - self._renewed < RENEW_EVERY_SECONDS else 1.0)

    def _give_up(self) -> None:
        for root_id in list(self.fences()):
            self.lose(root_id, "The leases could not be renewed.")

    async def _watch(self) -> None:
        """Hear of take-overs and cancels by other processes."""
        while True:
            await asyncio.sleep(WATCH_EVERY_SECONDS)
            if not self.holds:
                self._give_up()
                continue
            fences = dict(self.fences())
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    lost = await self.leases.find_lost(fences) if fences else []
            except (PyMongoError, TimeoutError):
                continue
            except Exception:
                log.exception("fence-watcher-crashed")
                continue
            for root_id in lost:
                if self.fences().get(root_id) == fences[root_id]:
                    self.lose(root_id, "Another process has taken this run over, or cancelled it.")


def now() -> float:
    """The monotonic clock of this process's event loop."""
    return asyncio.get_running_loop().time()
