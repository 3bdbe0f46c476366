"""Many event sockets in one process: as little client as there can be, so that the service is what is measured."""

import asyncio
import base64
import os
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlparse

import orjson


@dataclass(eq=False)
class EventSocket(asyncio.Protocol):
    """Counts the messages of one socket; the first is the answer to `subscribe`, then come the numbers in order.

    `chunks` has, for each arrival of bytes, the moment (monotonic nanoseconds) and the number of the last whole event.
    """

    key: str
    execution_id: str | None
    after: int = 0
    chunks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    transport: asyncio.Transport | None = None
    closed: bool = False
    subscribed_at: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _open: bool = False
    _waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list[tuple[int, "asyncio.Future[None]"]])
    _seen: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        self.transport.write(
            b"GET /api/agent-events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n"
            b"X-API-Key: " + self.key.encode() + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Count whole messages."""
        self._buffer += data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert self._buffer.startswith(b"HTTP/1.1 101"), self._buffer[:200]
            del self._buffer[: end + 4]
            self._open = True
            if self.execution_id is not None:
                self.send({"type": "subscribe", "executionId": self.execution_id, "afterSeq": self.after})
        place, found = whole_messages(self._buffer)
        del self._buffer[:place]
        if found:
            self._note(found)

    def _note(self, found: int) -> None:
        if not self.subscribed_at:
            self.subscribed_at = time.monotonic_ns()
            found -= 1
        self._seen += found
        self.chunks.append((time.monotonic_ns(), self.after + self._seen))
        while self._waiting and self._waiting[0][0] <= self.after + self._seen:
            waiter = self._waiting.pop(0)[1]
            if not waiter.done():
                waiter.set_result(None)

    def send(self, message: dict[str, object]) -> None:
        """Send a message, masked as a client's must be (with a mask of zeros)."""
        text = orjson.dumps(message)
        assert self.transport is not None
        assert len(text) < 126 + 65536
        size = bytes((0x80 | len(text),)) if len(text) < 126 else bytes((0xFE,)) + len(text).to_bytes(2)
        self.transport.write(b"\x81" + size + b"\0\0\0\0" + text)

    async def has_seen(self, number: int) -> None:
        """Wait until an event has come; 0 is the answer to `subscribe`."""
        if self.subscribed_at and self.after + self._seen >= number:
            return
        if self.closed:
            raise ConnectionResetError(f"The service closed the socket of {self.execution_id}.")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((number, waiter))
        self._waiting.sort(key=lambda one: one[0])
        await waiter

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, and fail whoever waits for more."""
        self.closed = True
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(ConnectionResetError(f"The service closed the socket of {self.execution_id}."))


def whole_messages(buffer: bytearray) -> tuple[int, int]:
    """Where the last whole message ends, and how many there are; pings are not answered and not counted."""
    place = found = 0
    size = len(buffer)
    while place + 2 <= size:
        length = buffer[place + 1]
        start = place + 2
        if length == 126:
            start, length = place + 4, int.from_bytes(buffer[place + 2 : place + 4])
        elif length == 127:
            start, length = place + 10, int.from_bytes(buffer[place + 2 : place + 10])
        if start + length > size:
            break
        found += buffer[place] == 0x81
        place = start + length
    return place, found


async def open_sockets(url: str, key: str, ids: list[str | None], after: int = 0) -> list[EventSocket]:
    """A socket for each id, subscribed to it."""
    loop = asyncio.get_running_loop()
    port = urlparse(url).port or 80

    async def open_one(execution_id: str | None) -> EventSocket:
        _, protocol = await loop.create_connection(lambda: EventSocket(key, execution_id, after), "127.0.0.1", port)
        return protocol

    return list(await asyncio.gather(*(open_one(one) for one in ids)))


def latencies(sockets: list[EventSocket], appended: dict[str, list[int]]) -> list[float]:
    """Milliseconds from `append` to the frame's arrival, of every event at every socket, sorted."""
    found: list[float] = []
    for socket in sockets:
        times = appended[socket.execution_id or ""]
        seen = 0
        for moment, last in socket.chunks:
            found += [(moment - times[number]) / 1e6 for number in range(seen, min(last, len(times)))]
            seen = max(seen, last)
    found.sort()
    return found
