"""Sinks of subscriptions: a socket, or a bounded queue whose reader sets the pace."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Protocol

from app.events.stream.encoding import Batch

MAX_QUEUED_BYTES = 512 * 1024


class Sink(Protocol):
    """A receiver of batches that does not wait; senders check `is_full` first."""

    @property
    def is_full(self) -> bool:
        """Whether its reader is so far behind that further events should wait in the database."""
        ...

    def send(self, batch: Batch) -> None:
        """Write a batch, or keep it until it can be written."""
        ...

    async def drained(self) -> None:
        """Wait until it is not full."""
        ...


class QueueSink:
    """A sink that is read by iterating; it holds half a megabyte and the last batch."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._size_bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def is_full(self) -> bool:
        """Whether the buffer is full."""
        return not self._drained.is_set()

    def send(self, batch: Batch) -> None:
        """Keep a batch for the reader."""
        self._batches.append(batch)
        self._size_bytes += batch.size_bytes
        self._filled.set()
        if self._size_bytes >= MAX_QUEUED_BYTES:
            self._drained.clear()

    async def drained(self) -> None:
        """Wait until the reader has read most of it."""
        await self._drained.wait()

    async def batches(self) -> AsyncGenerator[Batch]:
        """Yield every batch in order, endlessly; a batch counts as read when the next is requested."""
        while True:
            await self._filled.wait()
            while self._batches:
                batch = self._batches.popleft()
                yield batch
                self._size_bytes -= batch.size_bytes
                if self._size_bytes < MAX_QUEUED_BYTES // 2:
                    self._drained.set()
            self._filled.clear()
