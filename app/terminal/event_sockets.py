"""uvicorn's WebSocket, which besides takes messages that were encoded once for many sockets.

Only uvicorn's public seams are used: its `ws` setting takes a protocol class, and what the class offers stands in the
ASGI scope's `extensions`. Compression is off, so a server's text message has no state: whole messages may be written
to the transport between those that uvicorn writes.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from app.routers.socket_outlets import FRAMES_EXTENSION

SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel buffers for a peer that does not read; it would grow to megabytes by itself."""


class EventSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket connection that offers itself as a `FrameWriter`."""

    on_writable: Callable[[], None] | None = None
    on_unanswered: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what the kernel keeps for this peer."""
        super().connection_made(transport)
        raw = cast("socket.socket | None", transport.get_extra_info("socket"))
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Request) -> None:
        """Offer the writer to the application, whose task starts after this."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions = cast("dict[str, object]", self.scope.setdefault("extensions", {}))
            extensions[FRAMES_EXTENSION] = self

    @property
    def is_writable(self) -> bool:
        """Whether the transport has buffered little."""
        return self.writable.is_set()

    def write_messages(self, data: bytes) -> None:
        """Write whole, encoded messages; nothing when the socket is closing."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(data)

    def close_at_once(self, code: int, reason: str, patience_seconds: float) -> None:
        """Send a close frame behind what is buffered; cut the connection when the peer does not read it in time."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_timer = self.loop.call_later(patience_seconds, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Give up a peer that answers no ping; of one that does not read either, the ping may never have got there."""
        if self.writable.is_set() or self.on_unanswered is None:
            super().keepalive_timeout()
        else:
            self.on_unanswered()

    def resume_writing(self) -> None:
        """Tell who waits that the peer has read."""
        super().resume_writing()
        if self.on_writable:
            self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits that there is nothing to wait for."""
        super().connection_lost(exc)
        if self.on_writable:
            self.on_writable()
