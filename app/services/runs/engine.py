"""The run engine: runs the trees that this process owns, and takes up those that nobody runs any more."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError
from pymongo.errors import PyMongoError

from app.errors import AppError
from app.events.bus import EventBus
from app.events.log import TreeLog, TreeLost
from app.events.rows import Stored
from app.events.whole import read_stored, tree_events
from app.models.agent import Agent
from app.models.agent_execution import AgentExecution, ExecutionKind
from app.models.database import Database
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loading import AgentNotFound, DefinitionLoader, parsed
from app.services.runs.agent_run import run_agent
from app.services.runs.department_run import DepartmentRun
from app.services.runs.execution_run import Crew
from app.services.runs.leases import RENEW_EVERY_SECONDS, Leases
from app.services.runs.orchestration_run import OrchestrationRun
from app.services.runs.statistics import Statistics
from app.services.runs.tree import RunTree

MAX_TAKEOVERS = 3
SWEEP_LIMIT = 16

log = structlog.get_logger(__name__)


class WorkerLost(AppError):
    """The processes that ran it died, one after the other."""

    code = "worker-lost"

    def __init__(self, takeovers: int) -> None:
        super().__init__(f"The process that ran this died, and so did those that took it over ({takeovers} in all).")


@dataclass
class OwnedTree:
    """A tree that this process runs: its log and the task that runs it."""

    log: TreeLog
    task: asyncio.Task[AgentExecution | None] | None = None

    def stop(self) -> None:
        """Stop the task: the tree is lost, or handed over."""
        if self.task:
            self.task.cancel()


@dataclass
class RunEngine:
    """Runs accepted executions as tasks of this process, at most `max_concurrent` trees at a time."""

    database: Database
    bus: EventBus
    loader: DefinitionLoader
    crew: Crew
    max_concurrent: int
    leases: Leases = field(init=False)
    _statistics: Statistics = field(init=False)
    _owned: dict[str, OwnedTree] = field(default_factory=dict, init=False)
    _slots: asyncio.Semaphore = field(init=False)
    _keeper: asyncio.Task[None] | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.leases = Leases(self.database, owner=f"process_{secrets.token_hex(8)}")
        self._statistics = Statistics(self.database)
        self._slots = asyncio.Semaphore(self.max_concurrent)

    async def start(self) -> None:
        """Take up what earlier processes left, and keep the leases of what runs here."""
        await self.leases.read_clock()
        self._keeper = asyncio.create_task(self._keep(), name="lease keeper")

    @property
    def is_healthy(self) -> bool:
        """Whether leases are kept and lost runs taken up."""
        return self._keeper is not None and not self._keeper.done() and not self._stopping

    def submit(self, root: AgentExecution, agent: AgentDefinition) -> None:
        """Run a tree whose root was just stored with this process's lease, by the definition it was checked with."""
        self._own(root, agent)

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
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        tasks = [owned.task for owned in self._owned.values() if owned.task]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        left = list(self._owned)
        for owned in list(self._owned.values()):
            owned.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._statistics.settle()
        if left:
            log.info("runs-handed-over", count=len(left))
            with contextlib.suppress(PyMongoError):
                await self.leases.hand_over(left)

    def _own(self, root: AgentExecution, agent: AgentDefinition | None) -> None:
        """Run a tree as a task; without an agent it is one that was taken over, and is read first."""
        tree_log = TreeLog(
            database=self.database,
            bus=self.bus,
            root_id=root.execution_id,
            fence=root.fence,
            last_seq=root.last_seq,
            on_lost=lambda: owned.stop(),
        )
        owned = OwnedTree(tree_log)
        tree = RunTree(root, tree_log, self.crew)
        self._owned[root.execution_id] = owned
        owned.task = asyncio.create_task(self._run(tree, agent), name=f"run {root.execution_id}")

    async def _run(self, tree: RunTree, agent: AgentDefinition | None) -> AgentExecution | None:
        """Run a tree to its end, whatever happens in it: the edge where a crash becomes a failed run.

        Gives the root as it is stored, unless the tree went to others.
        """
        root = tree.root
        structlog.contextvars.bind_contextvars(executionId=root.execution_id)
        try:
            async with self._slots:
                tree.log.open(await self._read_tree(tree) if agent is None else stored_new(tree.root))
                await self._run_to_end(tree, agent)
                await tree.log.committed()
                self._statistics.count_soon()
                return root if root.execution_id in tree.runs else None
        except TreeLost as error:
            log.warning("run-lost", reason=str(error))
        except PyMongoError as error:
            log.warning("run-left-to-others", error=type(error).__name__)
        finally:
            await tree.log.close()
            self._owned.pop(root.execution_id, None)
        return None

    async def _read_tree(self, tree: RunTree) -> dict[str, Stored]:
        """All documents of a tree that was taken over; what they say of its executions goes into the tree."""
        found = self.database[AgentExecution.get_collection_name()].find(
            {"rootExecutionId": tree.root.execution_id}, {"runState": 0, "events": 0}
        )
        members = [one async for raw in found if (one := parsed(AgentExecution, raw))]
        agents = self.database[Agent.get_collection_name()].find(
            {"_id": {"$in": [one.agent for one in members]}}, {"agentId": 1}
        )
        names = {raw["_id"]: raw.get("agentId") async for raw in agents}
        for one in members:
            name = names.get(one.agent)
            if name is not None:
                tree.agent_ids[one.execution_id] = name
            if one.parent_execution_id is not None:
                tree.children[one.parent_execution_id, name or one.execution_id] = one
        async for execution_id, event in tree_events(self.database, tree.root.execution_id):
            tree.stored_events.setdefault(execution_id, []).append(event)
        tree.log.last_seq = max(one.last_seq for one in members)
        return await read_stored(self.database, tree.root.execution_id)

    async def _run_to_end(self, tree: RunTree, agent: AgentDefinition | None) -> None:
        """Run the root by its kind; an error of any sort ends the whole tree as failed."""
        root = tree.root
        try:
            if agent is None:
                agent = await self._take_up(tree)
            structlog.contextvars.bind_contextvars(agentId=agent.agent_id)
            run = tree.run_of(root, agent)
            match root.kind:
                case ExecutionKind.DEPARTMENT:
                    team = await self.loader.get_team(agent.department.slug)
                    await DepartmentRun(run, team, tree).run()
                case ExecutionKind.ORCHESTRATION:
                    await OrchestrationRun(run, tree, self.loader).run()
                case ExecutionKind.AGENT:
                    await run_agent(run)
            log.info("run-completed", kind=root.kind.value)
        except AppError as error:
            log.info("run-failed", code=error.code)
            tree.fail(error)
        except (TreeLost, PyMongoError):
            raise
        except Exception:
            log.exception("run-crashed")
            tree.fail(AppError("The run failed for a reason that is in the service's log."))

    async def _take_up(self, tree: RunTree) -> AgentDefinition:
        """Go on with a tree that another process left, by the definitions as they stand now."""
        tree.note_takeover()
        if tree.root.takeovers > MAX_TAKEOVERS:
            raise WorkerLost(tree.root.takeovers)
        raw = await self.database[Agent.get_collection_name()].find_one({"_id": tree.root.agent}, {"agentId": 1})
        if raw is None:
            raise AgentNotFound(str(tree.root.agent))
        return await self.loader.get_agent(raw["agentId"])

    async def _keep(self) -> None:
        """Renew the leases of what runs here, and take up what nobody runs, for as long as the process lives."""
        while True:
            try:
                await self._renew_and_sweep()
            except PyMongoError as error:
                log.warning("leases-not-kept", error=type(error).__name__)
            except Exception:
                log.exception("sweep-crashed")
            await asyncio.sleep(RENEW_EVERY_SECONDS)

    async def _renew_and_sweep(self) -> None:
        if self._owned:
            await self.leases.renew(list(self._owned))
        await self.leases.read_clock()
        self._statistics.count_soon()
        for root_id in await self.leases.find_expired(SWEEP_LIMIT):
            if root_id in self._owned:
                continue
            try:
                root = await self.leases.take_over(root_id)
            except ValidationError as error:
                log.error("run-unreadable", executionId=root_id, problems=error.error_count())
                continue
            if root is not None:
                log.info("run-taken-over", executionId=root_id, takeovers=root.takeovers)
                self._own(root, None)


def stored_new(root: AgentExecution) -> dict[str, Stored]:
    """The documents of a tree that has just begun."""
    assert root.id is not None  # noqa: S101 - it was stored
    return {root.execution_id: Stored(root.id)}
