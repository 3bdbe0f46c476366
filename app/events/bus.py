"""The bus: what was committed reaches everybody who follows a run tree, in this process.

The bus is a doorbell with the frames as a shortcut. A follower that cannot keep up loses frames here, never events:
it is told so (`missed`) and reads the database from where it stood.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from app.events.types import AgentDelta, Frame
from app.models.agent_execution import ExecutionStatus

MAX_BUFFERED_COMMITS = 256


@dataclass(frozen=True, slots=True)
class Ending:
    """An execution reached a terminal status; `last_seq` is its last event's number."""

    execution_id: str
    status: ExecutionStatus
    last_seq: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A group of events that MongoDB holds with majority, in the order of their numbers."""

    root_id: str
    frames: tuple[Frame, ...]
    endings: tuple[Ending, ...] = ()


class Follower:
    """One reader's bounded buffer of what was committed to a tree since it began to follow."""

    def __init__(self, *, deltas: bool) -> None:
        self.deltas = deltas
        self.missed = False
        self._buffer: deque[Committed | AgentDelta] = deque()
        self._ready = asyncio.Event()

    def offer(self, message: Committed | AgentDelta) -> None:
        """Buffer a message; when the buffer is full a delta is dropped and a commit noted as missed."""
        if len(self._buffer) >= MAX_BUFFERED_COMMITS:
            if isinstance(message, AgentDelta):
                return
            self._buffer.clear()
            self.missed = True
        self._buffer.append(message)
        self._ready.set()

    async def take(self) -> list[Committed | AgentDelta]:
        """All that is buffered, waiting for at least one message."""
        await self._ready.wait()
        self._ready.clear()
        messages = list(self._buffer)
        self._buffer.clear()
        return messages

    def clear(self) -> None:
        """Forget what is buffered: the caller is about to read it from the database."""
        self._buffer.clear()
        self._ready.clear()
        self.missed = False


class EventBus(Protocol):
    """What the log publishes to and the hub follows."""

    def publish(self, committed: Committed) -> None:
        """Tell the tree's followers; called only after the commit."""
        ...

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on to the followers that asked for it."""
        ...

    def wants_deltas(self, root_id: str) -> bool:
        """Whether anybody who follows the tree asked for live text."""
        ...

    def follow(self, root_id: str, *, deltas: bool) -> AbstractContextManager[Follower]:
        """A buffer of the tree's commits from now on."""
        ...


class InProcessBus:
    """The bus of a single process."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}

    def publish(self, committed: Committed) -> None:
        """Tell the tree's followers; called only after the commit."""
        for follower in self._followers.get(committed.root_id, ()):
            follower.offer(committed)

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on to the followers that asked for it."""
        for follower in self._followers.get(delta.root_execution_id, ()):
            if follower.deltas:
                follower.offer(delta)

    def wants_deltas(self, root_id: str) -> bool:
        """Whether anybody who follows the tree asked for live text."""
        return any(follower.deltas for follower in self._followers.get(root_id, ()))

    @contextmanager
    def follow(self, root_id: str, *, deltas: bool) -> Generator[Follower]:
        """A buffer of the tree's commits from now on."""
        follower = Follower(deltas=deltas)
        followers = self._followers.setdefault(root_id, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers:
                self._followers.pop(root_id, None)
