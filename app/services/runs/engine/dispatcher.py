"""The dispatcher: takes waiting runs whenever this process has room for them."""

import asyncio
import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import structlog
from pymongo.errors import OperationFailure, PyMongoError

from app.failpoints import failpoint
from app.kit.concurrency import end_tasks
from app.models.agent_execution import AgentExecution
from app.services.runs.engine.execution_spans import record_queue_wait
from app.services.runs.engine.owned_trees import OwnedTrees
from app.services.runs.engine.queue import RunQueue, WaitingRun
from app.services.runs.engine.timings import Timings
from app.telemetry.metrics import QUEUE_WAIT, TAKEOVERS
from app.telemetry.tracing import NO_TRACES, Traces

CLAIMS_AT_ONCE = 8

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunLimits:
    """Limits on the trees that a process runs at a time, on each department's trees over all processes, and on run
    time."""

    max_concurrent: int = 64
    per_department: int | None = None
    run_seconds: float = 3600


@dataclass
class Dispatcher:
    """Takes waiting runs from the queue and passes each to `run`.

    It checks the queue after each wake-up, and every few seconds without one. `holds_leases` reports whether this
    process certainly still holds its leases; if not, it takes nothing.
    """

    queue: RunQueue
    owned: OwnedTrees
    limits: RunLimits
    timings: Timings
    holds_leases: Callable[[], bool]
    run: Callable[[AgentExecution], None]
    traces: Traces = NO_TRACES
    is_draining: bool = field(default=False, init=False)
    _reserved: int = field(default=0, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _wanted: int = field(default=0, init=False)
    _may_wait: bool = field(default=False, init=False)
    """Whether more runs may be waiting than were taken."""
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start taking waiting runs."""
        self._task = asyncio.create_task(self._dispatch(), name="dispatcher")

    def drain(self) -> None:
        """Take no more runs; those in progress continue."""
        self.is_draining = True

    async def stop(self) -> None:
        """Stop the loop."""
        if self._task:
            await end_tasks(self._task)

    @property
    def is_alive(self) -> bool:
        """Whether the loop is running."""
        return self._task is not None and not self._task.done()

    @property
    def room(self) -> int:
        """The number of additional trees that this process can run."""
        return 0 if self.is_draining else max(self.limits.max_concurrent - self.owned.running - self._reserved, 0)

    @contextlib.contextmanager
    def reserved_slot(self) -> Generator[None]:
        """Keep a slot free while a root that will run here is being stored."""
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    def wake(self) -> None:
        """Look for one more waiting run."""
        self._wanted += 1
        self._may_wait = True
        self._wake.set()

    def slot_freed(self) -> None:
        """Look for a run to replace one that has left this process."""
        if self._may_wait:
            self.wake()

    async def _dispatch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.timings.look_every_seconds):  # wait_for can swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                self._wanted = self.limits.max_concurrent
            self._wake.clear()
            wanted, self._wanted = self._wanted, 0
            try:
                if self.room and self.holds_leases():
                    await self.take_waiting(wanted)
            except PyMongoError as error:
                log.warning("queue-read-failed", error=type(error).__name__)
            except Exception:
                log.exception("dispatcher-crashed")

    async def take_waiting(self, wanted: int) -> None:
        """Take the first waiting runs, at most `wanted` and at most as many as there is room for.

        If departments are limited, runs are taken one by one, and a department that refused one is skipped.
        """
        limited = self.limits.per_department is not None
        waiting = [run for run in await self.queue.find_waiting() if run.root_id not in self.owned]
        refused = False
        while waiting and (size := min(self.room, wanted, 1 if limited else CLAIMS_AT_ONCE)) > 0:
            batch, waiting = waiting[:size], waiting[size:]
            taken = await asyncio.gather(*(self._take(run) for run in batch))
            wanted -= sum(taken)
            refused = refused or not all(taken)
            if limited and not taken[0]:
                waiting = [run for run in waiting if run.begun or run.department != batch[0].department]
        self._may_wait = refused or bool(waiting)

    async def _take(self, waiting: WaitingRun) -> bool:
        """Become the owner of a waiting run; returns whether this process did."""
        try:
            root = await self.queue.take(waiting)
        except PyMongoError as error:
            if not isinstance(error, OperationFailure) and not error.timeout:
                raise
            code = error.code if isinstance(error, OperationFailure) else None
            log.warning("run-claim-failed", executionId=waiting.root_id, error=type(error).__name__, code=code)
            return False
        if root is None:
            return False
        now = self.queue.leases.server_now()
        QUEUE_WAIT.observe(max((now - waiting.since).total_seconds(), 0))
        record_queue_wait(self.traces, root, waiting.since, now, was_owned=waiting.was_owned)
        if waiting.was_owned:
            TAKEOVERS.inc()
        log.info("run-taken", executionId=waiting.root_id, takeovers=root.takeovers)
        failpoint("after-claim")
        self.run(root)
        return True
