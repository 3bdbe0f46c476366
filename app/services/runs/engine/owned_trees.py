"""The run trees that this process owns."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import structlog

from app.events.log.tree_log import TreeLog
from app.models.agent_execution import AgentExecution
from app.services.runs.approvals.waits import TreeWaits

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class OwnedTree:
    """A tree that this process runs, or ends because it was cancelled: its log, and the task that does the work."""

    log: TreeLog
    is_cancelled: bool
    waits: TreeWaits
    count_running: Callable[[], int]
    """Returns how many executions of the tree are running."""
    is_stopped: bool = False
    is_released: bool = False
    """Whether the tree gives up its lease because everything in it waits for decisions."""
    awaited: tuple[str, ...] = ()
    """The approvals that a released tree waits for."""
    task: asyncio.Task[AgentExecution | None] | None = None

    def stop(self) -> None:
        """Cancel the task, at most once: a second cancel would interrupt its clean-up."""
        if self.task and not self.is_stopped:
            self.is_stopped = True
            if not self.is_released:
                self.task.cancel()

    def release(self) -> None:
        """Cancel the task in order to give up the lease, unless the task is being stopped."""
        if self.task and not self.is_stopped and not self.is_released:
            self.is_released = True
            self.awaited = tuple(self.waits.decided)
            self.task.cancel()


@dataclass
class OwnedTrees:
    """The owned trees by root id; a cancelled tree replaces the running one under its id."""

    _trees: dict[str, OwnedTree] = field(default_factory=dict[str, OwnedTree])

    def __len__(self) -> int:
        return len(self._trees)

    def __contains__(self, root_id: str) -> bool:
        return root_id in self._trees

    def __iter__(self) -> Iterator[OwnedTree]:
        return iter(list(self._trees.values()))

    @property
    def running(self) -> int:
        """The number of trees that occupy a slot, which cancelled ones do not."""
        return sum(not tree.is_cancelled for tree in self._trees.values())

    @property
    def executions_running(self) -> int:
        """The number of executions that this process runs."""
        return sum(tree.count_running() for tree in self._trees.values())

    def add(self, root_id: str, tree: OwnedTree) -> None:
        """Own a tree under its root's id."""
        self._trees[root_id] = tree

    def remove(self, root_id: str, tree: OwnedTree) -> None:
        """Stop owning this tree, unless another has replaced it."""
        if self._trees.get(root_id) is tree:
            del self._trees[root_id]

    def stop(self, root_id: str) -> None:
        """Stop the tree with this root, if it is owned."""
        if tree := self._trees.get(root_id):
            tree.stop()

    def stop_lost(self, root_id: str, reason: str) -> None:
        """Stop a tree that this process no longer owns."""
        tree = self._trees.get(root_id)
        if tree and not tree.is_stopped:
            log.warning("run-lost", executionId=root_id, reason=reason)
            tree.stop()

    def fences(self) -> dict[str, int]:
        """Return the fence of each owned tree by its root's id."""
        return {root_id: tree.log.fence for root_id, tree in self._trees.items()}

    def tasks(self) -> list[asyncio.Task[AgentExecution | None]]:
        """Return the tasks of all owned trees."""
        return [tree.task for tree in self._trees.values() if tree.task]

    async def wait_for_end(self, root_id: str) -> AgentExecution | None:
        """Wait until the tree's task has ended.

        Returns the root as stored, or `None` if the tree is not owned here or has passed to another process.
        """
        tree = self._trees.get(root_id)
        if tree is None or tree.task is None:
            return None
        await asyncio.wait({tree.task})
        return None if tree.task.cancelled() or tree.task.exception() else tree.task.result()
