"""Sending to one event socket: directly to the server's transport if possible, else message by message.

A service with a thousand sockets on one run spends most of its time sending. Frames that were encoded once go to the
transports as they are, many in one write; the ASGI interface would encode and wait for each message of each socket.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from app.events.stream.encoding import Batch, websocket_message
from app.events.stream.sinks import QueueSink

STALLED_SECONDS = 30.0
LAST_WORDS_SECONDS = 5.0
"""How long a peer has to read the close frame."""
FRAMES_EXTENSION = "dynamic-agents.frames"
"""The key in the ASGI scope's `extensions` under which a server offers a `FrameWriter`."""


class FrameWriter(Protocol):
    """A server's end of a WebSocket that takes encoded messages."""

    on_writable: Callable[[], None] | None
    on_unanswered: Callable[[], None] | None
    """Called when a peer that is not reading has not answered a ping either."""

    @property
    def is_writable(self) -> bool:
        """Whether the peer is keeping up, so that little is buffered."""
        ...

    def admit(self) -> None:
        """Allow the peer more messages, because it has authenticated."""
        ...

    def write_messages(self, data: bytes) -> None:
        """Send complete, encoded messages, or nothing if the socket is closing."""
        ...

    def close_at_once(self, code: int, reason: str, patience_seconds: float) -> None:
        """Queue a close frame after the buffered output; cut the connection if the peer does not read it in time."""
        ...


def stall_timer(on_stalled: Callable[[], None] | None) -> asyncio.TimerHandle:
    """Return the timer that calls back when a peer has read nothing for too long."""
    return asyncio.get_running_loop().call_later(STALLED_SECONDS, on_stalled or (lambda: None))


class SocketSink(Protocol):
    """A sink that a session also closes."""

    on_stalled: Callable[[], None] | None

    @property
    def is_full(self) -> bool:
        """Whether so much is buffered for the peer that the rest should wait in the database."""
        ...

    def send(self, batch: Batch) -> None:
        """Send the messages of a batch."""
        ...

    def send_text(self, text: bytes) -> None:
        """Send one message."""
        ...

    async def drained(self) -> None:
        """Wait until the peer has read most of it."""
        ...

    def close(self, code: int, reason: str, patience_seconds: float = LAST_WORDS_SECONDS) -> None:
        """Close the socket, even if the peer does not read."""
        ...

    async def end(self) -> None:
        """Send nothing more; the socket has closed."""
        ...


def sink_for(websocket: WebSocket) -> SocketSink:
    """Return the sink of an accepted socket."""
    writer = websocket.scope.get("extensions", {}).get(FRAMES_EXTENSION)
    return AsgiSink(websocket) if writer is None else DirectSink(cast("FrameWriter", writer))


class DirectSink:
    """Writes to the server's transport, which buffers what the peer has not read."""

    def __init__(self, writer: FrameWriter) -> None:
        self.on_stalled: Callable[[], None] | None = None
        self._writer = writer
        self._waiting: asyncio.Event | None = None
        self._stalled: asyncio.TimerHandle | None = None
        writer.admit()
        writer.on_writable = self._note_writable
        writer.on_unanswered = self._note_stalled

    @property
    def is_full(self) -> bool:
        """Whether the transport has buffered more than its limit."""
        return not self._writer.is_writable

    def send(self, batch: Batch) -> None:
        """Write the batch's bytes, which all sockets share."""
        self._writer.write_messages(batch.websocket)

    def send_text(self, text: bytes) -> None:
        """Write one message."""
        self._writer.write_messages(websocket_message(text))

    async def drained(self) -> None:
        """Wait until the transport has sent most of what it buffered."""
        while not self._writer.is_writable:
            if self._waiting is None:
                self._waiting = asyncio.Event()
                self._stalled = stall_timer(self.on_stalled)
            await self._waiting.wait()

    def _note_stalled(self) -> None:
        if self.on_stalled:
            self.on_stalled()

    def _note_writable(self) -> None:
        if self._waiting:
            self._waiting.set()
            self._waiting = None
        if self._stalled:
            self._stalled.cancel()

    def close(self, code: int, reason: str, patience_seconds: float = LAST_WORDS_SECONDS) -> None:
        """Close after the buffered output; the connection is cut if the peer does not read it in time."""
        self._writer.close_at_once(code, reason, patience_seconds)

    async def end(self) -> None:
        """Send nothing more."""
        self.on_stalled = self._writer.on_writable = self._writer.on_unanswered = None
        self._note_writable()


class AsgiSink(QueueSink):
    """Sends message by message through any ASGI server, from a bounded queue."""

    def __init__(self, websocket: WebSocket) -> None:
        super().__init__()
        self.on_stalled: Callable[[], None] | None = None
        self._socket = websocket
        self._closing: asyncio.Task[None] | None = None
        self._sending = asyncio.create_task(self._send_queued(), name="send to socket")

    def send_text(self, text: bytes) -> None:
        """Queue one message."""
        self.send(Batch.of_text(text))

    async def drained(self) -> None:
        """Wait until most of the queue is sent."""
        if not self.is_full:
            return
        stalled = stall_timer(self.on_stalled)
        try:
            await super().drained()
        finally:
            stalled.cancel()

    def close(self, code: int, reason: str, patience_seconds: float = LAST_WORDS_SECONDS) -> None:
        """Close the socket in the background, once the server accepts the close frame."""
        self._sending.cancel()
        self._closing = asyncio.create_task(self._close(code, reason), name="close socket")

    async def end(self) -> None:
        """Send nothing more."""
        self.on_stalled = None
        for task in (self._sending, self._closing):
            if task:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _send_queued(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it closed while a message was being sent
            async for batch in self.batches():
                for text in batch.texts:
                    await self._socket.send_text(text.decode())

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.close(code, reason)
