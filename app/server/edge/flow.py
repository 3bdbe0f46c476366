"""The flow of a connection: the control of its input, and the watch over its output.

Both call their connection back, and forget it when it closes: objects that refer to each other wait for the garbage
collector, which stops the event loop while it visits thousands of closed connections.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

from app.server.edge.limits import EdgeLimits


def ignore() -> None:
    """Do nothing: the connection has closed."""


class InputFlow(FlowControl):
    """uvicorn's flow control, which leaves pausing the transport to the connection and its buffered input."""

    def __init__(self, transport: asyncio.Transport, on_change: Callable[[], None]) -> None:
        super().__init__(transport)
        self._on_change = on_change

    def pause_reading(self) -> None:
        """Stop reading for now."""
        self.read_paused = True
        self._on_change()

    def resume_reading(self) -> None:
        """Continue to read."""
        if self.read_paused:
            self.read_paused = False
            self._on_change()

    def end(self) -> None:
        """Forget the connection, which has closed."""
        self._on_change = ignore


class OutputWatch:
    """Calls back when a peer reads hardly any of the output that waits for it."""

    def __init__(self, transport: asyncio.Transport, limits: EdgeLimits, on_stalled: Callable[[], None]) -> None:
        self._transport, self._limits, self._on_stalled = transport, limits, on_stalled
        self._size_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the watch, unless it is running."""
        if self._timer is None:
            self._size_bytes = self._transport.get_write_buffer_size()
            self._timer = asyncio.get_running_loop().call_later(self._limits.unread_seconds, self._look)

    def stop(self) -> None:
        """Stop the watch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        before, now = self._size_bytes, self._transport.get_write_buffer_size()
        if now > before - self._limits.unread_progress_bytes:
            self._on_stalled()
        else:
            self.start()

    def end(self) -> None:
        """Stop the watch, and forget the connection, which has closed."""
        self.stop()
        self._on_stalled = ignore
