"""Peers that ask for much and read nothing."""

import asyncio
import contextlib
import socket

from tests.fixtures.attacking import Outcome, Target, attack
from tests.security.attacks.frames import PING

STREAMS = 60
PINGERS = 10
RECEIVE_BYTES = 4096
OPEN_SECONDS = 3.0


async def connect(port: int) -> tuple[socket.socket, asyncio.AbstractEventLoop]:
    """A connection of which the kernel keeps next to nothing on our side."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    raw.setblocking(False)
    await loop.sock_connect(raw, ("127.0.0.1", port))
    return raw, loop


async def ending_of(raw: socket.socket) -> str:
    """Whether a connection was cut in the middle of its answer."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            while part := await loop.sock_recv(raw, 1024 * 1024):
                if part.endswith(b"0\r\n\r\n"):
                    return "complete"
        return "cut"
    except TimeoutError:
        return "open"
    except ConnectionError:
        return "cut"


async def until_over(target: Target) -> None:
    """Wait until the time is over."""
    await asyncio.sleep(max(target.ends - asyncio.get_running_loop().time(), 0))


@attack("event streams that are not read")
async def unread_streams(target: Target) -> Outcome:
    """Ask for eight megabytes of events on each of many streams."""
    head = (
        f"GET /api/v1/executions/{target.execution_id}/events/stream HTTP/1.1\r\n"
        f"Host: 127.0.0.1\r\nX-API-Key: {target.key}\r\n\r\n"
    )
    sockets: list[socket.socket] = []
    try:
        for _ in range(STREAMS):
            raw, loop = await connect(target.port)
            sockets.append(raw)
            await loop.sock_sendall(raw, head.encode())
        await until_over(target)
        outcome = Outcome(peers=STREAMS)
        for ending in await asyncio.gather(*map(ending_of, sockets)):
            outcome.note(ending)
        return outcome
    finally:
        for raw in sockets:
            raw.close()


@attack("pings whose pongs are not read")
async def unread_pongs(target: Target) -> Outcome:
    """Send pings within the allowed rate, each as large as may be, and read nothing."""
    outcome = Outcome(peers=PINGERS)
    ping = b"\x89\xfd" + PING[2:] + b"x" * 125

    async def be_one() -> None:
        raw, loop = await connect(target.port)
        with contextlib.closing(raw), contextlib.suppress(ConnectionError, TimeoutError):
            raw_key = f"X-API-Key: {target.key}\r\n"
            await loop.sock_sendall(
                raw,
                (
                    "GET /api/agent-events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{raw_key}\r\n"
                ).encode(),
            )
            while not target.is_over:
                async with asyncio.timeout(max(target.ends - loop.time(), 0.01)):
                    await loop.sock_sendall(raw, ping * 40)
                outcome.sent_bytes += 40 * len(ping)
                await asyncio.sleep(0.4)

    await asyncio.gather(*(be_one() for _ in range(PINGERS)))
    return outcome
