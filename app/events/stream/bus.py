"""The bus: committed events reach every follower of a run tree.

The bus is a wake-up with the frames as a shortcut. A buffer that cannot keep up loses frames, never events: it is
marked (`missed`), and its reader continues from the database. For trees of other processes it polls their heads
(`app/events/stream/head_poller.py`), with or without Redis.
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
LOCAL_SECONDS = 2.0
POLL_SECONDS = 0.4


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


@dataclass(frozen=True, slots=True)
class Moved:
    """The tree has reached `last_seq`, or an execution has ended; the database has the new events."""

    root_id: str
    last_seq: int


Message = Committed | Moved | AgentDelta


def reports_end(message: Message, execution_id: str) -> bool:
    """Return whether a message says that an execution has ended."""
    return isinstance(message, Committed) and any(one.execution_id == execution_id for one in message.endings)


class BusBuffer:
    """One reader's bounded buffer of a tree's commits since it began to follow."""

    def __init__(self, root_id: str, *, foreign: bool = False) -> None:
        self.root_id = root_id
        self.foreign = foreign
        self.deltas = False
        self.missed = False
        self._buffer: deque[Message] = deque()
        self._ready = asyncio.Event()

    def offer(self, message: Message) -> None:
        """Buffer a message; if the buffer is full, a delta is dropped and a commit is noted as missed."""
        if len(self._buffer) >= MAX_BUFFERED_COMMITS:
            if isinstance(message, AgentDelta):
                return
            self._buffer.clear()
            self.missed = True
        self._buffer.append(message)
        self._ready.set()

    async def take(self) -> list[Message]:
        """Remove and return all buffered messages, waiting for at least one."""
        await self._ready.wait()
        self._ready.clear()
        messages = list(self._buffer)
        self._buffer.clear()
        return messages

    def clear(self) -> None:
        """Discard the buffered messages, which the caller is about to read from the database."""
        self._buffer.clear()
        self._ready.clear()
        self.missed = False


class EventBus(Protocol):
    """The interface that the log publishes to and the hub follows."""

    def publish(self, committed: Committed) -> None:
        """Pass a message to the tree's buffers; called only after the commit."""
        ...

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text to the buffers that want it."""
        ...

    def wants_deltas(self, root_id: str) -> bool:
        """Return whether a follower of the tree wants live text."""
        ...

    def may_be_followed(self, root_id: str) -> bool:
        """Return whether the tree may have followers."""
        ...

    def follow(self, root_id: str, *, foreign: bool = False) -> AbstractContextManager[BusBuffer]:
        """Open a buffer that receives the tree's commits from now on."""
        ...

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """Pass live text to the buffer too, from now on."""
        ...


class Heads(Protocol):
    """The part of a bus that the poller needs."""

    @property
    def poll_seconds(self) -> float:
        """The longest time for which commits of other processes may go unnoticed."""
        ...

    def unheard(self) -> list[BusBuffer]:
        """Return followers of trees that this process does not run now."""
        ...

    def deliver(self, message: Message, root_id: str) -> None:
        """Pass a message to the buffers of a tree in this process."""
        ...


class InProcessBus:
    """The bus of a process that learns of other processes only through the database."""

    def __init__(self) -> None:
        self._buffers: dict[str, set[BusBuffer]] = {}
        self._published_at: dict[str, float] = {}

    @property
    def poll_seconds(self) -> float:
        """The longest time for which commits of other processes may go unnoticed."""
        return POLL_SECONDS

    def publish(self, committed: Committed) -> None:
        """Pass a message to the tree's buffers; called only after the commit."""
        if committed.root_id in self._buffers:
            self._published_at[committed.root_id] = asyncio.get_running_loop().time()
            self.deliver(committed, committed.root_id)

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text to the buffers that want it."""
        self.deliver(delta, delta.root_execution_id)

    def deliver(self, message: Message, root_id: str) -> None:
        """Pass a message to the buffers of a tree in this process."""
        for buffer in self._buffers.get(root_id, ()):
            if buffer.deltas or not isinstance(message, AgentDelta):
                buffer.offer(message)

    def wants_deltas(self, root_id: str) -> bool:
        """Return whether a follower of the tree wants live text."""
        return any(buffer.deltas for buffer in self._buffers.get(root_id, ()))

    def may_be_followed(self, root_id: str) -> bool:
        """Return whether this process has followers of the tree; other processes poll its head."""
        return root_id in self._buffers

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """Pass live text to the buffer too, from now on."""
        buffer.deltas = True

    def unheard(self) -> list[BusBuffer]:
        """Return one follower of each tree that this process does not run now."""
        recently = asyncio.get_running_loop().time() - LOCAL_SECONDS
        return [
            next(iter(buffers))
            for root_id, buffers in self._buffers.items()
            if self._published_at.get(root_id, 0.0) < recently
        ]

    @contextmanager
    def follow(self, root_id: str, *, foreign: bool = False) -> Generator[BusBuffer]:
        """Open a buffer that receives the tree's commits from now on."""
        buffer = BusBuffer(root_id, foreign=foreign)
        buffers = self._buffers.setdefault(root_id, set())
        buffers.add(buffer)
        try:
            yield buffer
        finally:
            buffers.discard(buffer)
            if not buffers:
                self._buffers.pop(root_id, None)
                self._published_at.pop(root_id, None)
