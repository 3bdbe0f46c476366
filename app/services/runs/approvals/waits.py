"""The waits of a run tree: its calls that wait for decisions, and whether anything else in it can progress.

A tree in which every task waits for a person is released: it holds no lease and no slot until a decision. Idleness
decides nothing else. A tree that is released too early continues from its events like any other.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

GRACE_SECONDS = 0.05
"""How long a tree stays with its owner once nothing in it can progress."""
SETTLING_TURNS = 20
"""Iterations of the event loop after which the end of one task has woken all others that it can wake."""


@dataclass
class TreeWaits:
    """The tasks of a tree: how many can progress, and the decisions that the others wait for, by approval id.

    The tree's main task counts from the start. `on_idle` is called once nothing can progress without a decision.
    """

    on_idle: Callable[[], None] = lambda: None
    decided: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event], init=False)
    _active: int = field(default=1, init=False)
    _check: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def is_idle(self) -> bool:
        """Whether the tree waits only for decisions, none of which has been made."""
        undecided = bool(self.decided) and not any(event.is_set() for event in self.decided.values())
        return undecided and self._active <= 0

    @contextmanager
    def working(self) -> Generator[None]:
        """Enter this context in each task that the tree starts in addition to its main task."""
        self._active += 1
        try:
            yield
        finally:
            self._rest()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Enter this context while a task waits for other tasks of the tree."""
        self._rest()
        try:
            yield
        finally:
            self._active += 1

    @contextmanager
    def awaiting(self, approval_id: str) -> Generator[asyncio.Event]:
        """Enter this context while a task waits for a decision; the event is set once a decision may have been made."""
        self.decided[approval_id] = asyncio.Event()
        try:
            with self.paused():
                yield self.decided[approval_id]
        finally:
            del self.decided[approval_id]

    def stop(self) -> None:
        """Cancel a pending idle check."""
        if self._check is not None:
            self._check.cancel()

    def _rest(self) -> None:
        self._active -= 1
        if self.is_idle and (self._check is None or self._check.done()):
            self._check = asyncio.create_task(self._confirm(), name="idle check")

    async def _confirm(self) -> None:
        """Report that the tree is idle if it stays so."""
        await asyncio.sleep(GRACE_SECONDS)
        for _ in range(SETTLING_TURNS):
            await asyncio.sleep(0)
        if self.is_idle:
            self.on_idle()
