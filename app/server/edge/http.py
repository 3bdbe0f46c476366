"""uvicorn's HTTP connection, with bounds on the cost of each.

uvicorn parses all received input at once. Here a connection parses one piece, then the rest in turns with the others;
it reads nothing more until then. Heads, bodies, pipelines and unread output are bounded in size and time.

The overridden methods are those that uvicorn and its parser call; `pyproject.toml` bounds uvicorn's versions.
"""

import asyncio
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.server.edge.flow import InputFlow, OutputWatch
from app.server.edge.limits import Edge, InputBuffer
from app.server.edge.refusals import MALFORMED, Refusal, Refused, refusal_behind, refuse_bad_handshake, refuse_bad_host
from app.server.edge.websocket import SocketConnection

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

READ_BUFFER_BYTES = 64 * 1024
SEND_BUFFER_BYTES = 128 * 1024
"""The kernel's send buffer for a peer that does not read; by default it grows to megabytes."""
HEAD_PIECE_BYTES = 4 * 1024
BODY_PIECE_BYTES = 64 * 1024
"""The largest piece of input that is parsed at a time."""
HEAD_ENDS = (b"\n\r\n", b"\n\n")
SMALL_CHUNK_BYTES = 16
LINGER_SECONDS = 2.0
"""How long a refused peer has to read the reason: closing a connection with unread input discards its last response."""
LINGER_BYTES = 1024 * 1024

log = structlog.get_logger(__name__)


def http_protocol(edge: Edge) -> Callable[..., "HttpConnection"]:
    """Return the factory with which uvicorn creates a connection."""

    def connect(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpConnection:
        return HttpConnection(edge, config, server_state, app_state)

    return connect


class Part(Enum):
    """The part of a request that comes next."""

    HEAD = auto()
    BODY = auto()


class HttpConnection(HttpToolsProtocol):
    """An HTTP connection within bounds."""

    def __init__(self, edge: Edge, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._edge = edge
        self._limits = edge.limits
        self._input = InputBuffer()
        self._takes_turns = False
        self._parser: httptools.HttpRequestParser = cast("httptools.HttpRequestParser", self.parser)
        self._answering: RequestResponseCycle | None = None
        self._is_open = False
        self._part = Part.HEAD
        self._part_bytes = 0
        self._body_bytes = self._chunks = 0
        self._body_left: int | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._output: OutputWatch
        self._refusal: Refusal | None = None
        self._discardable_bytes: int | None = None
        """How many more bytes are read and discarded once the last response is written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # type: ignore[override]
        """Bound the kernel's buffers for this peer, and wait for its first request."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transport only has its methods
        super().connection_made(self.transport)
        self._is_open = True
        self.flow = InputFlow(self.transport, self._on_input_flow)
        self._output = OutputWatch(self.transport, self._limits, self._give_up_output)
        raw = cast("socket.socket | None", transport.get_extra_info("socket"))
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BUFFER_BYTES)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._set_deadline(self._limits.head_seconds)
        if not self._edge.connections.open(self):
            self._refuse(Refusal.FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the request in progress, and release everything."""
        self._edge.connections.close(self)
        if self.flow.write_paused:
            self._edge.memory.return_soon()
        super().connection_lost(exc)
        if self._answering is not None and not self._answering.response_complete:  # not the last one of a pipeline
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._release()

    def _release(self) -> None:
        """Forget all that refers to this connection, which otherwise waits for the garbage collector."""
        self._is_open = False
        self._input.clear()
        self._output.end()
        cast("InputFlow", self.flow).end()
        self._unset_keepalive_if_required()
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
        self.pipeline.clear()
        self.parser = self._parser = self.cycle = self._answering = self._timer = None  # type: ignore[assignment]

    def give_up(self) -> None:
        """Make room for another connection."""
        self.transport.abort()

    # Input

    def data_received(self, data: bytes) -> None:
        """Parse a piece of the input now, and the rest in turns."""
        if self._discardable_bytes is not None:
            self._discardable_bytes -= len(data)
            if self._discardable_bytes < 0:
                self.transport.abort()
            return
        self._input.add(data)
        if not self._takes_turns and self.parse_piece():
            self._edge.turns.add(self)

    @property
    def _is_held(self) -> bool:
        """Whether parsing has to wait."""
        return (
            not self._is_open
            or self._refusal is not None
            or self.flow.read_paused
            or len(self.pipeline) >= self._limits.pipelined
        )

    def parse_piece(self) -> bool:
        """Parse one piece; return whether more can be parsed now."""
        if not self._is_held and self._input:
            self._feed_parser()
        self._takes_turns = bool(self._input) and not self._is_held
        if self._is_open:
            self._update_reading()
        return self._takes_turns

    def _on_input_flow(self) -> None:
        if self._input and not self._takes_turns and not self._is_held:
            self._takes_turns = True
            self._edge.turns.add(self)
        self._update_reading()

    def _update_reading(self) -> None:
        if self.transport.is_closing():
            return
        if self._discardable_bytes is None and (self._input or self.flow.read_paused or self._refusal):
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _feed_parser(self) -> None:
        self._unset_keepalive_if_required()
        if self._body_left is not None:
            piece = self._input.take(min(self._body_left, BODY_PIECE_BYTES))
        else:
            piece = self._input.take_through(HEAD_ENDS, HEAD_PIECE_BYTES)
        self._part_bytes += len(piece)
        refusal = self._excess()
        if refusal is not None:
            self._refuse(refusal)
            return
        upgraded_at: int | None = None
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            upgraded_at = upgrade.args[0]
        except httptools.HttpParserError as error:
            refusal = refusal_behind(error)
        if refusal is not None:
            self._refuse(refusal)
        elif upgraded_at is not None:  # not above: later errors would refer to that exception, and it to this frame
            self._handle_upgrade(piece[upgraded_at:])
        else:
            self._update_deadline()

    def _excess(self) -> Refusal | None:
        if self._part is Part.HEAD:
            return Refusal.HEAD_TOO_LARGE if self._part_bytes > self._limits.head_bytes else None
        if self._part_bytes > self._limits.head_bytes + 8 * self._body_bytes + BODY_PIECE_BYTES:
            return MALFORMED  # endless chunk extensions or trailers
        if self.cycle.response_complete and self._part_bytes > self._limits.discarded_bytes:
            return MALFORMED
        return None

    # Callbacks of the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are ignored."""
        if self._part is Part.BODY:
            return
        if len(self.headers) <= self._limits.headers:  # one above the limit shows that there are too many
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the complete head before the request starts."""
        version = self._parser.get_http_version()
        refuse_bad_host(self.headers, version)
        if self._parser.should_upgrade() and self._should_upgrade():
            if self._is_answering:
                raise Refused(MALFORMED)
            refuse_bad_handshake(self._parser.get_method(), version, self.url, self.headers, self._limits.headers)
        elif len(self.headers) > self._limits.headers:
            raise Refused(Refusal.TOO_MANY_HEADERS)
        super().on_headers_complete()
        self._part, self._part_bytes, self._body_bytes, self._chunks = Part.BODY, 0, 0, 0
        self._deadline = None
        length = next((value for name, value in self.headers if name == b"content-length"), None)
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._body_left = None if length is None or chunked else int(length)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body_bytes += len(body)
        self._chunks += 1
        if self._chunks > self._limits.small_chunks + self._body_bytes // SMALL_CHUNK_BYTES:
            raise Refused(MALFORMED)
        if self._body_left is not None:
            self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next head."""
        super().on_message_complete()
        self._part, self._part_bytes, self._body_left = Part.HEAD, 0, None
        self._deadline = None
        if self._is_answering and not self.flow.write_paused:
            self._edge.connections.busy(self)

    def _handle_upgrade(self, rest: bytes) -> None:
        later = self._input.take(len(self._input))
        if self._should_upgrade():
            self._become_websocket(rest + later)
        else:
            self._input.add(rest + later)  # an unsupported protocol: the request is answered over HTTP

    def _become_websocket(self, rest: bytes) -> None:
        self.connections.discard(self)
        self._edge.connections.busy(self)
        head = [self._parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            head += [name, b": ", value, b"\r\n"]
        self._release()
        protocol = SocketConnection(self._edge, self.config, self.server_state, self.app_state)
        self._edge.connections.idle(protocol)  # until it has authenticated
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.begin(b"".join([*head, b"\r\n"]), rest)

    # Responses

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        """Start a request."""
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        """Whether the response to an earlier request is in progress."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def on_response_complete(self) -> None:
        """Start the next request, or send the refusal of it."""
        if self._refusal is not None and not self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            self._send_refusal(self._refusal)
            return
        if self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            self._edge.starts.add(self._start_next)
            return
        super().on_response_complete()
        if self.transport.is_closing():
            self._output.start()
        elif not self._is_answering:
            self._edge.connections.idle(self)

    def _start_next(self) -> None:
        """Start a pipelined request."""
        if not self._is_open or self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            self.flow.resume_reading()
        elif self._refusal is not None:
            self._send_refusal(self._refusal)

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the incoming request after the responses to earlier ones, and close."""
        self._refusal = refusal
        self._input.clear()
        self._deadline = None
        if self._part is Part.BODY:
            broken = self.cycle
            broken.disconnected = True
            broken.message_event.set()
            if self.pipeline:
                self.pipeline.popleft()
                return
            if broken.response_started:
                self.transport.close()
                self._output.start()
                return
        elif self._is_answering:
            return
        self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        self.transport.write(refusal.answer(self.url if self._part is Part.BODY else b"/"))
        self._discardable_bytes = LINGER_BYTES
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._update_reading()
        self._set_timer(self.loop.time() + LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """Watch whether the peer reads; meanwhile the connection may be closed to make room for others."""
        super().pause_writing()
        self._output.start()
        self._edge.connections.idle(self)

    def resume_writing(self) -> None:
        """Stop the watch: the peer has read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._output.stop()
        if self._is_answering:
            self._edge.connections.busy(self)

    def _give_up_output(self) -> None:
        log.info("peer-too-slow", address=self.client[0] if self.client else "")
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even if its peer has not read the last response."""
        self.transport.abort()

    # Deadlines

    def _update_deadline(self) -> None:
        if self._part is Part.HEAD and self._part_bytes == 0:
            self._deadline = None
        elif self._deadline is None:
            body = self._part is Part.BODY
            self._set_deadline(self._limits.body_seconds if body else self._limits.head_seconds)

    def _set_deadline(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer(self._deadline, self._check_deadline)

    def _set_timer(self, moment: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(moment, call)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._deadline is None or self._refusal is not None or self.transport.is_closing():
            return
        if self._input or self._is_held:  # the delay is ours, not the peer's
            self._set_deadline(self._limits.head_seconds)
        elif self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._check_deadline)
        elif self._part_bytes == 0 and self._part is Part.HEAD:
            self.transport.abort()
        else:
            self._refuse(Refusal.TOO_SLOW)
