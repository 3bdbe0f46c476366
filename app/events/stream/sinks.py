"""Sinks of subscriptions: a socket, or a bounded queue whose reader sets the pace."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Protocol

from app.events.stream.encoding import Batch

MAX_QUEUED_BYTES = 512 * 1024


class Sink(Protocol):
    """Takes batches without waiting; whoever sends looks first whether it is full."""

    @property
    def is_full(self) -> bool:
        """Whether its reader has so much to read already that the rest should wait in the database."""
        ...

    def send(self, batch: Batch) -> None:
        """Pass a batch on, or keep it until it can go."""
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
        """Whether the reader has enough to read."""
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
        """Yields every batch in order, without an end; one counts as read when the next is requested."""
        while True:
            await self._filled.wait()
            while self._batches:
                batch = self._batches.popleft()
                yield batch
                self._size_bytes -= batch.size_bytes
                if self._size_bytes < MAX_QUEUED_BYTES // 2:
                    self._drained.set()
            self._filled.clear()
