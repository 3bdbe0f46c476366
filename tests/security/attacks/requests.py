"""HTTP requests that cost more than they should: piles of them, heads and bodies without an end, silence."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tests.fixtures.attacking import Outcome, Target, attack

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PILE_BYTES = 300_000
PILES = 10
SILENT = 300
CHUNK = b"1\r\nx\r\n" * 4096
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def status_of(reader: asyncio.StreamReader) -> str:
    """The status of the next answer; `cut` where none comes."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        return (await reader.readuntil(b"\r\n")).split()[1].decode()
    return "cut"


async def again_and_again(target: Target, peers: int, once: Callable[[Streams, Outcome], Awaitable[None]]) -> Outcome:
    """Several peers at a time, each of which connects, does its worst, and connects again."""
    outcome = Outcome(peers=peers)

    async def be_one() -> None:
        while not target.is_over:
            streams = await asyncio.open_connection("127.0.0.1", target.port)
            try:
                async with asyncio.timeout(max(target.ends - asyncio.get_running_loop().time(), 0.01)):
                    await once(streams, outcome)
            except TimeoutError:
                outcome.note("open")
            except ConnectionError:
                outcome.note("cut")
            finally:
                streams[1].transport.abort()

    await asyncio.gather(*(be_one() for _ in range(peers)))
    return outcome


@attack("piles of pipelined requests")
async def pile(target: Target) -> Outcome:
    """Send thousands of requests at once, and read no answer."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[0]._transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        streams[1].write(HEALTH * (PILE_BYTES // len(HEALTH)))
        outcome.sent_bytes += PILE_BYTES
        await streams[1].drain()
        await asyncio.Event().wait()

    return await again_and_again(target, PILES, once)


@attack("piles of pipelined requests, answers read")
async def pile_and_read(target: Target) -> Outcome:
    """Send thousands of requests at once, and read all answers."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(HEALTH * (PILE_BYTES // len(HEALTH)))
        outcome.sent_bytes += PILE_BYTES
        while await streams[0].read(65536):
            pass

    return await again_and_again(target, PILES, once)


@attack("an endless header")
async def endless_header(target: Target) -> Outcome:
    """Send one header without end."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(512):
                streams[1].write(b"x" * 65536)
                outcome.sent_bytes += 65536
                await streams[1].drain()
        outcome.note(await status_of(streams[0]))

    return await again_and_again(target, PILES, once)


@attack("heads full of line ends")
async def line_ends(target: Target) -> Outcome:
    """Send empty lines, before a request and in a chunked body."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(b"\r\n" * 100_000)
        outcome.note(await status_of(streams[0]))

    return await again_and_again(target, PILES, once)


@attack("bodies in chunks of one byte")
async def tiny_chunks(target: Target) -> Outcome:
    """Send a body without an end, byte by byte, to a path that reads none."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        outcome.note(await status_of(streams[0]))
        with contextlib.suppress(ConnectionError):
            while True:
                streams[1].write(CHUNK)
                outcome.sent_bytes += len(CHUNK)
                await streams[1].drain()

    return await again_and_again(target, PILES, once)


@attack("silent connections")
async def silent(target: Target) -> Outcome:
    """Connect, send half a head or nothing, and wait."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(b"GET /healthz HTTP/1.1\r\n")
        outcome.note(await status_of(streams[0]))

    return await again_and_again(target, SILENT, once)


@attack("connections without a pause")
async def connect_storm(target: Target) -> Outcome:
    """Connect, ask once, and cut the connection."""

    async def once(streams: Streams, outcome: Outcome) -> None:
        streams[1].write(HEALTH)
        outcome.note(await status_of(streams[0]))

    return await again_and_again(target, PILES, once)
