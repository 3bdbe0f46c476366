"""WebSocket frames by the thousand, with and without credentials."""

import asyncio
import base64
import contextlib
import os

from tests.fixtures.attacking import Outcome, Target, attack

MASK = b"\0\0\0\0"
BURST = 512
CONTINUATION, PING, PONG, BINARY = (bytes((opcode, 0x80)) + MASK for opcode in (0x00, 0x89, 0x8A, 0x82))
TEXT = b"\x81\x82" + MASK + b"{}"
UNFINISHED_TEXT = b"\x01\x80" + MASK
CLOSE_OPCODE = 8
FLOODS = {
    "empty continuation frames": (UNFINISHED_TEXT, CONTINUATION),
    "pings": (b"", PING),
    "pongs": (b"", PONG),
    "empty binary messages": (b"", BINARY),
    "small text messages": (b"", TEXT),
}
SOCKETS = 4


async def open_socket(port: int, *headers: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket whose handshake is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = (
        *(b"GET /api/agent-events HTTP/1.1", b"Host: 127.0.0.1", b"Upgrade: websocket", b"Connection: Upgrade"),
        *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)), *headers),
    )
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    return reader, writer


async def ending_of(reader: asyncio.StreamReader) -> int | str:
    """The code of the close frame, once it comes; `cut` where none does."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8))
            payload = await reader.readexactly(size)
            if first & 0x0F == CLOSE_OPCODE:
                return int.from_bytes(payload[:2])
    return "cut"


async def pour(writer: asyncio.StreamWriter, outcome: Outcome, target: Target, piece: bytes) -> None:
    """Send the same again and again."""
    with contextlib.suppress(ConnectionError):
        while not target.is_over:
            writer.write(piece)
            outcome.sent_bytes += len(piece)
            await writer.drain()


async def flood(target: Target, outcome: Outcome, begin: bytes, piece: bytes, *headers: bytes) -> None:
    """Open a socket, pour frames into it until it closes, and begin again."""
    while not target.is_over:
        try:
            reader, writer = await open_socket(target.port, *headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            outcome.note("refused")
            continue
        writer.write(begin)
        pouring = asyncio.create_task(pour(writer, outcome, target, piece * BURST))
        try:
            async with asyncio.timeout(max(target.ends - asyncio.get_running_loop().time(), 0.05)):
                outcome.note(await ending_of(reader))
        except TimeoutError:
            outcome.note("open")
        finally:
            pouring.cancel()
            writer.transport.abort()


def register(name: str, begin: bytes, piece: bytes) -> None:
    """Register a flood without credentials, and the same with a key."""

    @attack(name)
    async def stranger(target: Target) -> Outcome:  # pyright: ignore[reportUnusedFunction] - registered
        outcome = Outcome(peers=SOCKETS)
        await asyncio.gather(*(flood(target, outcome, begin, piece) for _ in range(SOCKETS)))
        return outcome

    @attack(f"{name}, with a key")
    async def member(target: Target) -> Outcome:  # pyright: ignore[reportUnusedFunction] - registered
        outcome, header = Outcome(peers=SOCKETS), b"X-API-Key: " + target.key.encode()
        await asyncio.gather(*(flood(target, outcome, begin, piece, header) for _ in range(SOCKETS)))
        return outcome


for flood_name, (flood_begin, flood_piece) in FLOODS.items():
    register(flood_name, flood_begin, flood_piece)
