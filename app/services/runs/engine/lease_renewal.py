"""Lease renewal, on the event loop that runs the trees: a loop that hangs loses its leases.

A process that cannot renew, because the database is unavailable or the machine slept, stops its runs before another
process can take them. It learns within half a second that another process took over or cancelled a tree.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.kit.concurrency import end_tasks
from app.services.runs.engine.leases import Leases
from app.services.runs.engine.timings import DEFAULT_TIMINGS, Timings

log = structlog.get_logger(__name__)


@dataclass
class LeaseRenewer:
    """The loops of one process; `fences` returns the trees that it owns, `stop_lost` stops one of them."""

    leases: Leases
    fences: Callable[[], Mapping[str, int]]
    stop_lost: Callable[[str, str], None]
    timings: Timings = DEFAULT_TIMINGS
    _renewed: float = field(default=0.0, init=False)
    _locked: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float], init=False)
    """The last renewals of the trees, by root and fence, whose roots a transaction locks."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]], init=False)

    async def start(self) -> None:
        """Read the database's clock, and start to renew leases."""
        await self._renew()
        self._tasks = [
            asyncio.create_task(self._renew_regularly(), name="lease renewer"),
            asyncio.create_task(self._watch(), name="fence watcher"),
        ]

    async def stop(self) -> None:
        """Stop the loops; leases that are not handed over expire."""
        await end_tasks(*self._tasks)

    @property
    def holds(self) -> bool:
        """Whether this process certainly still holds its leases, by the monotonic clock."""
        return now() - self._renewed < self.timings.give_up_seconds

    @property
    def is_healthy(self) -> bool:
        """Whether leases are renewed."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks) and self.holds

    async def _renew(self) -> None:
        began, fences = now(), dict(self.fences())
        before = {tree: renewed for tree, renewed in self._locked.items() if tree in fences.items()}
        known = [root_id for root_id, _ in before]
        locked: list[str] = []
        if fences:
            locked = await self.leases.renew([root_id for root_id in fences if root_id not in known], known)
        async with asyncio.timeout(self.timings.answer_seconds):
            await self.leases.read_clock()
        trees = [(root_id, fences[root_id]) for root_id in locked]
        self._locked = {tree: before.get(tree, self._renewed) for tree in trees}
        self._renewed = began

    async def _renew_regularly(self) -> None:
        while True:
            if not self.holds:  # first: otherwise trees that others have since run would look held
                self._give_up()
            try:
                await self._renew()
            except (PyMongoError, TimeoutError) as error:
                log.warning("lease-renewal-failed", error=type(error).__name__)
            except Exception:
                log.exception("lease-renewer-crashed")
            interval = self.timings.renew_every_seconds
            await asyncio.sleep(interval if now() - self._renewed < interval else min(interval, 1.0))

    def _give_up(self) -> None:
        for root_id in list(self.fences()):
            self.stop_lost(root_id, "The leases could not be renewed.")

    def _stop_locked(self) -> None:
        """Stop the trees that have been locked for so long that their leases may end."""
        fences = self.fences()
        for (root_id, fence), renewed in self._locked.items():
            if fences.get(root_id) == fence and now() - renewed >= self.timings.give_up_seconds:
                self.stop_lost(root_id, "A transaction locks the run, so its lease could not be renewed.")

    async def _watch(self) -> None:
        """Notice take-overs and cancels by other processes."""
        while True:
            await asyncio.sleep(self.timings.watch_every_seconds)
            if not self.holds:
                self._give_up()
                continue
            self._stop_locked()
            fences = dict(self.fences())
            try:
                async with asyncio.timeout(self.timings.answer_seconds):
                    lost = await self.leases.find_lost(fences) if fences else []
            except (PyMongoError, TimeoutError):
                continue
            except Exception:
                log.exception("fence-watcher-crashed")
                continue
            for root_id in lost:
                if self.fences().get(root_id) == fences[root_id]:
                    self.stop_lost(root_id, "Another process has taken this run over, or cancelled it.")


def now() -> float:
    """Return the time of the event loop's monotonic clock."""
    return asyncio.get_running_loop().time()
