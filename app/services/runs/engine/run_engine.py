"""The run engine: runs the trees that this process owns, and takes up those that nobody runs."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import structlog
from pymongo.errors import OperationFailure, PyMongoError

from app.database.connection import Database
from app.database.natural_keys import find_agent_id
from app.errors import AppError
from app.events.log.tree_log import TreeLog, TreeLost
from app.events.stream.bus import EventBus
from app.failpoints import failpoint
from app.kit.concurrency import wait_until_ended
from app.models.agent_execution import AgentExecution, ExecutionKind, RevisionRequest
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import AgentNotFound, DefinitionLoader
from app.services.runs.engine.lease_renewal import LeaseRenewer
from app.services.runs.engine.leases import Leases
from app.services.runs.engine.queue import RunQueue, Waiting
from app.services.runs.engine.recovery import RunUnreadable, open_log
from app.services.runs.engine.wakeups import Wakeups
from app.services.runs.work.agent_run import run_agent
from app.services.runs.work.checkpoint_copier import CheckpointCopier
from app.services.runs.work.conversations import read_history
from app.services.runs.work.department_run import DepartmentRun
from app.services.runs.work.execution_run import RunContext
from app.services.runs.work.orchestration_run import OrchestrationRun
from app.services.runs.work.revision_request import apply_revision_request
from app.services.runs.work.run_tree import RunTree
from app.services.usage.statistics import Statistics

MAX_TAKEOVERS = 3
LOOK_EVERY_SECONDS = 2.0
"""How often a process looks for work that nobody told it of."""
CLAIMS_AT_ONCE = 8
CANCEL_SECONDS = 5.0

log = structlog.get_logger(__name__)


class WorkerLost(AppError):
    """The processes that ran it died, one after the other."""

    code = "worker-lost"

    def __init__(self, takeovers: int) -> None:
        super().__init__(f"The process that ran this died, and so did those that took it over ({takeovers} in all).")


class RunTooLong(AppError):
    """The run did not end in the time that a run may take."""

    code = "run-too-long"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The run did not end within {seconds:g} s, the most that a run may take.")


@dataclass(frozen=True)
class RunLimits:
    """How many trees a process runs at a time, how many of a department all processes do, and for how long each."""

    max_concurrent: int = 64
    per_department: int | None = None
    run_seconds: float = 3600


@dataclass(eq=False)
class OwnedTree:
    """A tree that this process runs, or ends for who cancelled it: its log, and the task that does so."""

    log: TreeLog
    is_cancelled: bool
    is_stopped: bool = False
    task: asyncio.Task[AgentExecution | None] | None = None

    def stop(self) -> None:
        """Stop the task, once: the tree is lost, or handed over. A second cancel would cut off its cleaning up."""
        if self.task and not self.is_stopped:
            self.is_stopped = True
            self.task.cancel()


@dataclass
class RunEngine:
    """Runs accepted executions as tasks of this process, at most `limits.max_concurrent` trees at a time."""

    database: Database
    bus: EventBus
    loader: DefinitionLoader
    context: RunContext
    limits: RunLimits
    wakeups: Wakeups | None = None
    """Where several processes share the work: what is accepted then goes to whoever hears it first."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set to hand runs over without a grace period when the engine stops."""
    leases: Leases = field(init=False)
    lease_renewer: LeaseRenewer = field(init=False)
    _queue: RunQueue = field(init=False)
    _statistics: Statistics = field(init=False)
    _owned: dict[str, OwnedTree] = field(default_factory=dict[str, OwnedTree], init=False)
    _reserved: int = field(default=0, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _wanted: int = field(default=0, init=False)
    _more_waits: bool = field(default=False, init=False)
    _taker: asyncio.Task[None] | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        owner = f"process_{secrets.token_hex(8)}"
        self.leases = Leases(self.database, owner, self.limits.run_seconds)
        self.lease_renewer = LeaseRenewer(self.leases, self._fences, self._lose)
        self._queue = RunQueue(self.database, self.leases, self.limits.per_department)
        self._statistics = Statistics(self.database)

    async def start(self) -> None:
        """Keep the leases of what runs here, and take up what nobody runs."""
        await self.lease_renewer.start()
        self._taker = asyncio.create_task(self._take_work(), name="work taker")

    def drain(self) -> None:
        """Take no new runs from now on; what runs goes on."""
        self._stopping = True

    @property
    def running(self) -> int:
        """How many run trees this process runs now."""
        return len(self._owned)

    @property
    def is_stopping(self) -> bool:
        """Whether the process is on its way out and takes no new runs."""
        return self._stopping

    @property
    def is_healthy(self) -> bool:
        """Whether leases are kept and waiting runs taken up."""
        return (
            self._taker is not None and not self._taker.done() and not self._stopping and self.lease_renewer.is_healthy
        )

    @property
    def room(self) -> int:
        """How many more trees this process may run now."""
        running = sum(not owned.is_cancelled for owned in self._owned.values())
        return 0 if self._stopping else max(self.limits.max_concurrent - running - self._reserved, 0)

    def wake(self) -> None:
        """Look for one more waiting run."""
        self._wanted += 1
        self._more_waits = True
        self._wake.set()

    async def accept(self, root: AgentExecution, agent: AgentDefinition) -> None:
        """Store a root with majority; then run it here, or leave it to whoever has room.

        Where processes share the work, or a department's runs are limited, the queue decides on every one.
        """
        alone = self.limits.per_department is None and self.wakeups is None
        here = alone and self.room > 0 and self.lease_renewer.holds
        root.fence = 1
        if here:
            self.leases.give(root)
        else:
            self.leases.leave_to_queue(root)
        self._reserved += here
        try:
            failpoint("before-insert")
            await self.database[AgentExecution.get_collection_name()].insert_one(root.as_stored())
            failpoint("after-insert")
        finally:
            self._reserved -= here
        if here:
            self._own(root, agent)
        elif self.wakeups is not None:
            self.wakeups.notify(root.execution_id)
        else:
            self.wake()

    async def cancel(self, root_id: str) -> bool:
        """End a tree as cancelled, wherever it runs, and wait until that is stored; whether this process did it.

        From the transaction on no write of its owner succeeds. An owner here is stopped at once, one elsewhere
        notices by the fence.
        """
        root = await self.leases.cancel(root_id)
        if root is None:
            return False
        log.info("run-cancelled", executionId=root_id)
        if owner := self._owned.get(root_id):
            owner.stop()
        self._own(root, None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self.wait_for_end(root_id)
        return True

    async def reopen(self, root_id: str, reopened: list[str], revision_request: RevisionRequest) -> bool:
        """Go on with executions of an ended tree, as a person wishes; whether this process does."""
        await self.wait_for_end(root_id)
        root = await self.leases.reopen(root_id, reopened, revision_request)
        if root is None:
            return False
        log.info("run-reopened", executionId=root_id)
        self._own(root, None)
        return True

    async def wait_for_end(self, root_id: str) -> AgentExecution | None:
        """The root as it is stored, once its tree has ended here; `None` where others have it."""
        owned = self._owned.get(root_id)
        if owned is None or owned.task is None:
            return None
        await asyncio.wait({owned.task})
        return None if owned.task.cancelled() or owned.task.exception() else owned.task.result()

    async def stop(self, grace_seconds: float) -> None:
        """Let short work end, then hand the rest over; nothing is left running without an owner."""
        self._stopping = True
        if self._taker:
            self._taker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._taker
        tasks = [owned.task for owned in self._owned.values() if owned.task]
        await wait_until_ended(tasks, grace_seconds, self.hurry)
        await self.lease_renewer.stop()
        left = list(self._owned.values())
        for owned in left:
            owned.stop()
        await asyncio.gather(*(owned.task for owned in left if owned.task), return_exceptions=True)
        await self._statistics.settle()
        if left:
            log.info("runs-handed-over", count=len(left))
        with contextlib.suppress(PyMongoError):
            await self.leases.hand_over()

    def _fences(self) -> dict[str, int]:
        return {root_id: owned.log.fence for root_id, owned in self._owned.items()}

    def _lose(self, root_id: str, reason: str) -> None:
        owned = self._owned.get(root_id)
        if owned and not owned.is_stopped:
            log.warning("run-lost", executionId=root_id, reason=reason)
            owned.stop()

    def _own(self, root: AgentExecution, agent: AgentDefinition | None) -> None:
        """Run a tree as a task; without an agent it is one that was begun, and is read first."""
        tree_log = TreeLog(
            database=self.database,
            bus=self.bus,
            root_id=root.execution_id,
            fence=root.fence,
            last_seq=root.last_seq,
            on_lost=lambda: owned.stop(),
            holds=lambda: self.lease_renewer.holds,
        )
        owned = OwnedTree(tree_log, bool(root.cancel_requested))
        tree = RunTree(root, tree_log, self.context)
        self._owned[root.execution_id] = owned
        owned.task = asyncio.create_task(self._run(tree, agent, owned), name=f"run {root.execution_id}")

    async def _run(self, tree: RunTree, agent: AgentDefinition | None, owned: OwnedTree) -> AgentExecution | None:
        """Run a tree to its end, whatever happens in it: the edge where a crash becomes a failed run.

        Gives the root as it is stored, unless the tree went to others.
        """
        root = tree.root
        structlog.contextvars.bind_contextvars(executionId=root.execution_id)
        try:
            if await open_log(
                self.database, tree, is_new=agent is not None, is_last_try=root.takeovers > MAX_TAKEOVERS
            ):
                failpoint("before-first-event")
                await self._run_to_end(tree, agent)
            await tree.log.committed()
            failpoint("after-end")
            self._statistics.count_soon()
            return root
        except TreeLost as error:
            log.warning("run-lost", reason=str(error))
        except (PyMongoError, RunUnreadable) as error:
            log.warning("run-left-to-others", error=type(error).__name__)
        except Exception:
            log.exception("run-left-to-others")
        finally:
            try:
                await tree.log.close()
            finally:
                self._let_go(root.execution_id, owned)
        return None

    def _let_go(self, root_id: str, owned: OwnedTree) -> None:
        """Own a tree no more, and look for another in its place if any waits."""
        if self._owned.get(root_id) is owned:
            self._owned.pop(root_id)
        if self._more_waits:
            self.wake()

    async def _run_to_end(self, tree: RunTree, agent: AgentDefinition | None) -> None:
        """Run the root by its kind within its time; an error of any sort ends the whole tree as failed."""
        if tree.root.cancel_requested:
            tree.cancel()
            return
        limit = asyncio.timeout(self.leases.seconds_left(tree.root))
        try:
            async with limit:
                await self._run_root(tree, agent or await self._take_up(tree), accepted=agent is None)
            log.info("run-completed", kind=tree.root.kind.value)
        except AppError as error:
            log.info("run-failed", code=error.code)
            tree.fail(error)
        except (TreeLost, PyMongoError):
            raise
        except Exception:
            if limit.expired():
                log.info("run-failed", code=RunTooLong.code)
                tree.fail(RunTooLong(self.limits.run_seconds))
                return
            log.exception("run-crashed")
            tree.fail(AppError("The run failed for a reason that is in the service's log."))

    async def _run_root(self, tree: RunTree, agent: AgentDefinition, *, accepted: bool) -> None:
        root = tree.root
        structlog.contextvars.bind_contextvars(agentId=agent.agent_id)
        tree.agent_ids[root.execution_id] = agent.agent_id
        if root.from_checkpoint and root.retry_of is not None:
            await CheckpointCopier(self.database, tree, root.retry_of).go_on()
        if root.previous_execution_id is not None and not tree.history:
            tree.history = await read_history(self.database, root.previous_execution_id)
        run = tree.run_of(root, agent)
        match root.kind:
            case ExecutionKind.DEPARTMENT:
                team = await self.loader.get_team(agent.department.slug, accepted=accepted)
                await DepartmentRun(run, team, tree).run()
            case ExecutionKind.ORCHESTRATION:
                await OrchestrationRun(run, tree, self.loader).run()
            case ExecutionKind.AGENT:
                await run_agent(run)

    async def _take_up(self, tree: RunTree) -> AgentDefinition:
        """Go on with a tree that another process left, by the definitions as they stand now, active or not."""
        if tree.root.reopening is not None:
            apply_revision_request(tree, tree.root.reopening)
        else:
            tree.note_takeover()
        if tree.root.takeovers > MAX_TAKEOVERS:
            raise WorkerLost(tree.root.takeovers)
        agent_id = await find_agent_id(self.database, tree.root.agent)
        if agent_id is None:
            raise AgentNotFound(str(tree.root.agent))
        return await self.loader.get_agent(agent_id, accepted=True)

    async def _take_work(self) -> None:
        """Take what waits whenever there is room, for as long as the process lives."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_SECONDS):  # wait_for can swallow a cancellation
                    await self._wake.wait()
            except TimeoutError:
                self._wanted = self.limits.max_concurrent
                self._statistics.count_soon()
            self._wake.clear()
            wanted, self._wanted = self._wanted, 0
            try:
                if self.room and self.lease_renewer.holds:
                    await self._take_waiting(wanted)
            except PyMongoError as error:
                log.warning("queue-not-read", error=type(error).__name__)
            except Exception:
                log.exception("work-taker-crashed")

    async def _take_waiting(self, wanted: int) -> None:
        """Take the first that can be had, as many as are wanted and there is room for.

        Where departments are limited one is taken after the other, and a department that refused one is left alone.
        """
        limited = self.limits.per_department is not None
        waiting = [one for one in await self._queue.find_waiting() if one.root_id not in self._owned]
        refused = False
        while waiting and (batch := min(self.room, wanted, 1 if limited else CLAIMS_AT_ONCE)) > 0:
            some, waiting = waiting[:batch], waiting[batch:]
            taken = await asyncio.gather(*(self._take(one) for one in some))
            wanted -= sum(taken)
            refused = refused or not all(taken)
            if limited and not taken[0]:
                waiting = [one for one in waiting if one.begun or one.department != some[0].department]
        self._more_waits = refused or bool(waiting)

    async def _take(self, one: Waiting) -> bool:
        try:
            root = await self._queue.take(one)
        except OperationFailure as error:
            log.warning("run-not-taken", executionId=one.root_id, error=type(error).__name__, code=error.code)
            return False
        if root is not None:
            log.info("run-taken", executionId=one.root_id, takeovers=root.takeovers)
            failpoint("after-claim")
            self._own(root, None)
        return root is not None
