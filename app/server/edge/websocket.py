"""uvicorn's WebSocket connection, with bounds on the cost of each, which also writes messages encoded once for many.

Frames are parsed a piece at a time, in turns with other connections. The number of frames per second and per message
is bounded, and nothing is read while a message waits for the application or the peer does not read.

The overridden methods are those that uvicorn calls; `pyproject.toml` bounds its versions. Compression is off, so a
server's text message has no state: complete messages may be written to the transport between those of uvicorn.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import structlog
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from app.routers.sockets.sinks import FRAMES_EXTENSION
from app.server.edge.flow import OutputWatch
from app.server.edge.limits import Edge, FrameBudget, InputBuffer
from app.server.edge.refusals import MALFORMED, forget_frames

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent

PIECE_BYTES = 256
"""The largest piece that is parsed at a time: a frame of six bytes, the shortest, costs as much as one of a hundred."""
LINGER_SECONDS = 2.0
"""How long a refused peer has to read the reason: closing a connection with unread input discards its last message."""
CLOSE_INVALID_TEXT = 1007
CLOSE_POLICY = 1008

log = structlog.get_logger(__name__)


class SocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket connection within bounds, which the application uses as a `FrameWriter`."""

    on_writable: Callable[[], None] | None = None
    on_unanswered: Callable[[], None] | None = None

    def __init__(self, edge: Edge, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._edge = edge
        self._limits = limits = edge.limits
        self._input = InputBuffer()
        self._takes_turns = False
        self._is_refused = False
        self._fragments = 0
        self._budget = FrameBudget(limits.stranger_frames_per_second, limits.stranger_frames_at_once)
        self._output: OutputWatch

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the transport of the HTTP connection."""
        super().connection_made(transport)
        self._output = OutputWatch(self.transport, self._limits, self._give_up_output)

    def begin(self, head: bytes, rest: bytes) -> None:
        """Do the handshake; `rest` is the input behind it."""
        super().data_received(head)
        if self.conn.handshake_exc is not None and not self.handshake_complete:
            self.transport.write(MALFORMED.answer(b"/"))
            self.handshake_complete = True
            self.transport.close()
        elif rest:
            self.data_received(rest)
        else:
            self.transport.resume_reading()

    def admit(self) -> None:
        """Give the socket the larger frame budget of an authenticated client."""
        self._budget = FrameBudget(self._limits.frames_per_second, self._limits.frames_at_once)
        self._edge.connections.busy(self)

    def give_up(self) -> None:
        """Make room for another connection."""
        self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        """Offer the writer to the application, whose task starts after this."""
        super().handle_connect(event)
        if not self.close_sent:
            extensions = cast("dict[str, object]", self.scope.setdefault("extensions", {}))
            extensions[FRAMES_EXTENSION] = self

    # Input

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the input now, and the rest in turns."""
        if self._is_refused or self.disconnected:
            return
        self._input.add(data)
        if not self._takes_turns and self.parse_piece():
            self._edge.turns.add(self)

    @property
    def _is_held(self) -> bool:
        """Whether parsing has to wait: a message waits for the application, or the peer does not read."""
        return (
            self._is_refused
            or self.disconnected
            or not self.handshake_complete
            or self.read_paused
            or not self.writable.is_set()
        )

    def parse_piece(self) -> bool:
        """Parse one piece; return whether more can be parsed now."""
        if not self._is_held and self._input:
            self.conn.receive_data(self._input.take(PIECE_BYTES))
            if self.conn.parser_exc is not None:
                self.handle_parser_exception()
            else:
                self._handle_frames()
        self._takes_turns = bool(self._input) and not self._is_held
        self._update_reading()
        return self._takes_turns

    def _resume_parsing(self) -> None:
        """Parse buffered input, unless parsing has to wait."""
        if self._input and not self._takes_turns and not self._is_held:
            self._takes_turns = True
            self._edge.turns.add(self)
        self._update_reading()

    def _update_reading(self) -> None:
        if self.disconnected or self.transport.is_closing():
            return
        if self._input or self.read_paused or self._is_refused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _handle_frames(self) -> None:
        for event in self.conn.events:
            if isinstance(event, Frame) and not self._is_within_bounds(event):
                self.conn.events_received()
                self.frames = []
                return
        self.handle_events()

    def _is_within_bounds(self, frame: Frame) -> bool:
        if not self._budget.spend():
            self._refuse(CLOSE_POLICY, "Too many frames per second.")
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._fragments = 1
        elif frame.opcode is Opcode.CONT:
            self._fragments += 1
            if self._fragments > self._limits.fragments:
                self._refuse(CLOSE_POLICY, f"A message may have at most {self._limits.fragments} fragments.")
        return not self._is_refused

    def send_receive_event_to_app(self) -> None:
        """Pass a message to the application, if its text is valid UTF-8."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._refuse(CLOSE_INVALID_TEXT, "A text message must be UTF-8.")
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close a socket that violates the protocol; the close frame is already written."""
        if self.conn.close_sent is None:
            self.transport.abort()
            return
        if not self.close_sent:
            code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self._end_soon()

    def _refuse(self, code: int, reason: str) -> None:
        log.info("socket-refused", code=code, reason=reason, address=self.client[0] if self.client else "")
        self.close_at_once(code, reason, LINGER_SECONDS)
        self._end_soon()

    def _end_soon(self) -> None:
        """Stop reading, and close once the peer has had time to read the reason."""
        self._is_refused = True
        self._input.clear()
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    async def receive(self) -> "ASGIReceiveEvent":
        """Return the next message, then parse those behind it."""
        message = await super().receive()
        self._resume_parsing()
        return message

    # Output

    async def send(self, message: "ASGISendEvent") -> None:
        """Send a message, then parse input that waited for the handshake."""
        await super().send(message)
        if self._input:
            self._resume_parsing()

    @property
    def is_writable(self) -> bool:
        """Whether the transport's buffer has room."""
        return self.writable.is_set()

    def write_messages(self, data: bytes) -> None:
        """Write complete, encoded messages, or nothing if the socket is closing."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(data)

    def close_at_once(self, code: int, reason: str, patience_seconds: float) -> None:
        """Send a close frame behind the buffered output; cut the connection if the peer does not read it in time."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_timer = self.loop.call_later(patience_seconds, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Close a socket whose peer answers no ping; if the peer does not read, the ping may not have reached it."""
        if self.writable.is_set() or self.on_unanswered is None:
            super().keepalive_timeout()
        else:
            self.on_unanswered()

    def pause_writing(self) -> None:
        """Watch whether the peer reads."""
        super().pause_writing()
        self._output.start()

    def resume_writing(self) -> None:
        """Notify the writer that the peer has read."""
        super().resume_writing()
        self._output.stop()
        if self.on_writable:
            self.on_writable()
        self._resume_parsing()

    def _give_up_output(self) -> None:
        """Close a socket whose peer reads nothing; the application sends the position from which to resume."""
        (self.on_unanswered or self.transport.abort)()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection, and notify the writer that it is closed."""
        self._edge.connections.close(self)
        if not self.writable.is_set():
            self._edge.memory.return_soon()
        super().connection_lost(exc)
        if self.on_writable:
            self.on_writable()
        self._release()

    def _release(self) -> None:
        """Forget all that refers to this connection, which otherwise waits for the garbage collector."""
        self._output.end()
        self._input.clear()
        self.frames = []
        self.conn.parser.close()
        forget_frames(self.conn.parser_exc)
        forget_frames(self.conn.handshake_exc)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Forget the application, which has ended."""
        super().on_task_complete(task)
        self.on_writable = self.on_unanswered = None
        cast("dict[str, object]", self.scope.get("extensions", {})).pop(FRAMES_EXTENSION, None)
