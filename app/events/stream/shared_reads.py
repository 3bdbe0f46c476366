"""Pages of stored events that concurrent readers share, such as a thousand sockets that reconnect at once."""

import asyncio
from dataclasses import dataclass, field, replace

from app.database.connection import Database
from app.events.replay import PAGE_BYTES, PAGE_ROWS, StreamHead, read_frames
from app.events.stream.encoding import Batch, batches_of
from app.events.types import Frame

KEEP_SECONDS = 5.0
MAX_KEPT_BYTES = 32 * 1024 * 1024
BATCH_BYTES = 256 * 1024

Key = tuple[str, int, int]


@dataclass(frozen=True)
class StoredPage:
    """Events that follow a number, in batches; `is_last` if there were no more at the time of the read."""

    frames: list[Frame]
    batches: list[Batch]
    is_last: bool


@dataclass
class SharedReads:
    """Shared reads of streams: readers of the same page wait for one read, and full pages are kept briefly."""

    database: Database
    _pages: dict[Key, asyncio.Task[StoredPage]] = field(default_factory=dict, init=False)
    _kept_bytes: int = field(default=0, init=False)

    async def page(self, head: StreamHead, after: int, known: int) -> StoredPage:
        """Return the events after number `after`, from a read that began once the tree had reached `known`."""
        key = (head.execution_id, after, known)
        reading = self._pages.get(key)
        if reading is None:
            reading = asyncio.create_task(self._read(key, head, after), name=f"read {head.execution_id}")
            reading.add_done_callback(note_failure)
            self._pages[key] = reading
        return await asyncio.shield(reading)

    async def _read(self, key: Key, head: StreamHead, after: int) -> StoredPage:
        size = 0
        try:
            may_grow = replace(head, has_pages=head.has_pages or not head.status.is_terminal)
            frames = await read_frames(self.database, may_grow, after)
            size = sum(len(frame.data) for frame in frames)
            is_last = len(frames) < PAGE_ROWS and size < PAGE_BYTES
            if is_last or self._kept_bytes + size > MAX_KEPT_BYTES:
                size = 0
            return StoredPage(frames, batches_of(frames, BATCH_BYTES), is_last)
        finally:
            if size:
                self._kept_bytes += size
                asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget, key, size)
            else:
                self._forget(key, 0)

    def _forget(self, key: Key, size: int) -> None:
        self._kept_bytes -= size
        self._pages.pop(key, None)


def note_failure(reading: asyncio.Task[StoredPage]) -> None:
    """Retrieve the error of a read whose readers have all left, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()
