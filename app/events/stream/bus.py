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


class BusBuffer:
    """One reader's bounded buffer of what was committed to a tree since it began to follow."""

    def __init__(self, root_id: str, *, foreign: bool = False) -> None:
        self.root_id = root_id
        self.foreign = foreign
        self.deltas = False
        self.missed = False
        self._buffer: deque[Message] = deque()
        self._ready = asyncio.Event()

    def offer(self, message: Message) -> None:
        """Buffer a message; when the buffer is full a delta is dropped and a commit noted as missed."""
        if len(self._buffer) >= MAX_BUFFERED_COMMITS:
            if isinstance(message, AgentDelta):
                return
            self._buffer.clear()
            self.missed = True
        self._buffer.append(message)
        self._ready.set()

    async def take(self) -> list[Message]:
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
    """The interface that the log publishes to and the hub follows."""

    def publish(self, committed: Committed) -> None:
        """Tell the tree's buffers; called only after the commit."""
        ...

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on to the buffers that asked for it."""
        ...

    def wants_deltas(self, root_id: str) -> bool:
        """Whether anybody who follows the tree asked for live text."""
        ...

    def may_be_followed(self, root_id: str) -> bool:
        """Whether the tree may have followers."""
        ...

    def follow(self, root_id: str, *, foreign: bool = False) -> AbstractContextManager[BusBuffer]:
        """A buffer of the tree's commits from now on."""
        ...

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """From now on pass live text to the buffer too."""
        ...


class Heads(Protocol):
    """The part of a bus that the poller needs."""

    @property
    def poll_seconds(self) -> float:
        """How long a tree of another process may have moved unheard."""
        ...

    def unheard(self) -> list[BusBuffer]:
        """Followers of trees that this process does not run now."""
        ...

    def deliver(self, message: Message, root_id: str) -> None:
        """Pass a message to the buffers of a tree here."""
        ...


class InProcessBus:
    """The bus of a process that hears of others only through the database."""

    def __init__(self) -> None:
        self._buffers: dict[str, set[BusBuffer]] = {}
        self._published_at: dict[str, float] = {}

    @property
    def poll_seconds(self) -> float:
        """How long a tree of another process may have moved unheard."""
        return POLL_SECONDS

    def publish(self, committed: Committed) -> None:
        """Tell the tree's buffers; called only after the commit."""
        if committed.root_id in self._buffers:
            self._published_at[committed.root_id] = asyncio.get_running_loop().time()
            self.deliver(committed, committed.root_id)

    def publish_delta(self, delta: AgentDelta) -> None:
        """Pass live text on to the buffers that asked for it."""
        self.deliver(delta, delta.root_execution_id)

    def deliver(self, message: Message, root_id: str) -> None:
        """Pass a message to the buffers of a tree here."""
        for buffer in self._buffers.get(root_id, ()):
            if buffer.deltas or not isinstance(message, AgentDelta):
                buffer.offer(message)

    def wants_deltas(self, root_id: str) -> bool:
        """Whether anybody who follows the tree asked for live text."""
        return any(buffer.deltas for buffer in self._buffers.get(root_id, ()))

    def may_be_followed(self, root_id: str) -> bool:
        """Whether anybody here follows the tree; other processes look at its head now and then."""
        return root_id in self._buffers

    def ask_for_deltas(self, buffer: BusBuffer) -> None:
        """From now on pass live text to the buffer too."""
        buffer.deltas = True

    def unheard(self) -> list[BusBuffer]:
        """Followers of trees that this process does not run now, one a tree."""
        recently = asyncio.get_running_loop().time() - LOCAL_SECONDS
        return [
            next(iter(buffers))
            for root_id, buffers in self._buffers.items()
            if self._published_at.get(root_id, 0.0) < recently
        ]

    @contextmanager
    def follow(self, root_id: str, *, foreign: bool = False) -> Generator[BusBuffer]:
        """A buffer of the tree's commits from now on."""
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
