"""The run engine of a process: accepts, cancels and reopens runs, and takes those that wait."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.events.outbox import Outbox
from app.events.stream.bus import EventBus
from app.failpoints import failpoint
from app.kit.concurrency import wait_until_ended
from app.models.agent_execution import AgentExecution, RevisionRequest
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import DefinitionLoader
from app.services.runs.approvals.store import ApprovalStore
from app.services.runs.approvals.watch import ApprovalWatch
from app.services.runs.engine.dispatcher import Dispatcher, RunLimits
from app.services.runs.engine.lease_renewal import LeaseRenewer
from app.services.runs.engine.leases import Leases
from app.services.runs.engine.origins import Accepted, Claimed
from app.services.runs.engine.owned_trees import OwnedTrees
from app.services.runs.engine.queue import RunQueue
from app.services.runs.engine.timings import DEFAULT_TIMINGS, Timings
from app.services.runs.engine.tree_runner import TreeRunner
from app.services.runs.engine.wakeups import OpenWakeups, Wakeups
from app.services.runs.material.cms_documents import CmsContext
from app.services.runs.work.execution_run import RunContext
from app.telemetry.metrics import QUEUE_WAIT
from app.telemetry.tracing import NO_TRACES, Traces

log = structlog.get_logger(__name__)


@dataclass
class RunEngine:
    """Runs accepted executions as tasks of this process, at most `limits.max_concurrent` trees at a time."""

    database: Database
    bus: EventBus
    loader: DefinitionLoader
    context: RunContext
    outbox: Outbox
    limits: RunLimits
    timings: Timings = DEFAULT_TIMINGS
    open_wakeups: OpenWakeups | None = None
    """Creates the wake-ups if several processes share the work, so that any of them can run what this one accepts."""
    traces: Traces = NO_TRACES
    hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set this to hand runs over without a grace period when the engine stops."""
    owned: OwnedTrees = field(default_factory=OwnedTrees, init=False)
    leases: Leases = field(init=False)
    lease_renewer: LeaseRenewer = field(init=False)
    runner: TreeRunner = field(init=False)
    approval_watch: ApprovalWatch = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    wakeups: Wakeups | None = field(init=False)

    def __post_init__(self) -> None:
        owner = f"process_{secrets.token_hex(8)}"
        self.leases = Leases(self.database, owner, self.limits.run_seconds, self.timings)
        self.lease_renewer = LeaseRenewer(self.leases, self.owned.fences, self.owned.stop_lost, self.timings)
        self.runner = TreeRunner(
            database=self.database,
            bus=self.bus,
            loader=self.loader,
            context=self.context,
            leases=self.leases,
            owned=self.owned,
            holds_leases=lambda: self.lease_renewer.holds,
            on_stored_end=self.outbox.notify,
            on_released=lambda: self.dispatcher.slot_freed(),
            on_available=lambda: self.dispatcher.wake(),
            traces=self.traces,
        )
        self.approval_watch = ApprovalWatch(
            store=ApprovalStore(self.database),
            waits=lambda: [tree.waits for tree in self.owned],
            server_now=self.leases.server_now,
            on_available=self.continue_decided,
        )
        self.dispatcher = Dispatcher(
            queue=RunQueue(self.database, self.leases, self.limits.per_department),
            owned=self.owned,
            limits=self.limits,
            timings=self.timings,
            holds_leases=lambda: self.lease_renewer.holds,
            run=lambda root: self.runner.start(root, Claimed.RECOVERED),
            traces=self.traces,
        )
        self.wakeups = self.open_wakeups(self.dispatcher) if self.open_wakeups else None

    async def start(self) -> None:
        """Start renewing the leases of this process's trees and taking waiting runs."""
        await self.lease_renewer.start()
        self.dispatcher.start()
        self.approval_watch.start()
        if self.wakeups:
            self.wakeups.start()

    def drain(self) -> None:
        """Take no new runs; those in progress continue."""
        self.dispatcher.drain()

    @property
    def running(self) -> int:
        """The number of run trees that this process runs now."""
        return len(self.owned)

    @property
    def is_stopping(self) -> bool:
        """Whether the process is stopping and accepts no new runs."""
        return self.dispatcher.is_draining

    @property
    def is_healthy(self) -> bool:
        """Whether leases are renewed and waiting runs taken."""
        return self.dispatcher.is_alive and not self.is_stopping and self.lease_renewer.is_healthy

    async def accept(self, root: AgentExecution, agent: AgentDefinition) -> None:
        """Store a root with majority; then run it here, or leave it to a process with room.

        Every run goes through the queue if processes share the work or a department's runs are limited.
        """
        is_alone = self.limits.per_department is None and self.wakeups is None
        root.fence = 1
        root.trace = self.traces.current()
        if is_alone and self.dispatcher.room > 0 and self.lease_renewer.holds:
            with self.dispatcher.reserved_slot():
                self.leases.give(root)
                cms = asyncio.create_task(self._read_context(root))
                try:
                    await self._insert(root)
                except BaseException:
                    cms.cancel()
                    raise
            QUEUE_WAIT.observe(0)
            self.runner.start(root, Accepted(agent, cms))
            return
        self.leases.leave_to_queue(root)
        await self._insert(root)
        if self.wakeups is not None:
            self.wakeups.notify(root.execution_id)
        else:
            self.dispatcher.wake()

    async def _read_context(self, root: AgentExecution) -> CmsContext | None:
        """Return a run's context, or `None` if the database fails: the run then reads it again."""
        with contextlib.suppress(PyMongoError):
            return await self.runner.read_context(root)
        return None

    async def _insert(self, root: AgentExecution) -> None:
        failpoint("before-insert")
        await collection_of(self.database, AgentExecution).insert_one(root.as_stored())
        failpoint("after-insert")

    def continue_decided(self, root_id: str) -> None:
        """Continue a tree in which an approval is no longer pending, in this process or another; returns at once."""
        self.approval_watch.look_now()
        if self.wakeups is not None:
            self.wakeups.notify(root_id)
        self.dispatcher.wake()

    async def cancel(self, root_id: str, mark: Raw | None = None) -> bool:
        """Cancel a tree, wherever it runs, and wait until its end is stored; return whether this call cancelled it.

        The same transaction stores the audit mark. Afterward, no write of the previous owner succeeds. An owner in this
        process is stopped at once; one in another process notices the new fence.
        """
        root = await self.leases.cancel(root_id, mark)
        if root is None:
            return False
        log.info("run-cancelled", executionId=root_id)
        self.owned.stop(root_id)
        self.runner.start(root, Claimed.CANCELLED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.timings.cancel_seconds):
                await self.wait_for_end(root_id)
        return True

    async def reopen(
        self, root_id: str, reopened: list[str], revision_request: RevisionRequest, mark: Raw | None = None
    ) -> bool:
        """Reopen executions of an ended tree, as a person requested; return whether they were reopened.

        A process that runs nothing itself leaves the tree to one that does.
        """
        await self.wait_for_end(root_id)
        takes_none = self.limits.max_concurrent == 0
        root = await self.leases.reopen(root_id, reopened, revision_request, mark, to_queue=takes_none)
        if root is None:
            return False
        log.info("run-reopened", executionId=root_id)
        if not takes_none:
            self.runner.start(root, Claimed.REOPENED)
        elif self.wakeups is not None:
            self.wakeups.notify(root_id)
        return True

    async def wait_for_end(self, root_id: str) -> AgentExecution | None:
        """Wait until a tree has ended here.

        Returns the root as stored, or `None` if this process does not own the tree or another continues it.
        """
        return await self.owned.wait_for_end(root_id)

    async def stop(self, grace_seconds: float) -> None:
        """Let short runs end within the grace period, then hand over the others, so that any process can take them at
        once."""
        self.drain()
        await self.dispatcher.stop()
        await wait_until_ended(self.owned.tasks(), grace_seconds, self.hurry)
        await self.approval_watch.stop()
        await self.lease_renewer.stop()
        remaining = list(self.owned)
        for tree in remaining:
            tree.stop()
        await asyncio.gather(*(tree.task for tree in remaining if tree.task), return_exceptions=True)
        if remaining:
            log.info("runs-handed-over", count=len(remaining))
        with contextlib.suppress(PyMongoError):
            await self.leases.hand_over()
        if self.wakeups:
            await self.wakeups.stop()
