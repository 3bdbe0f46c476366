"""Peers without credentials cannot hold all connections: those that wait for their peer make room for others."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx
import pytest

from tests.fixtures.attack_bounds import port_of
from tests.fixtures.processes import ServeProcess, serving
from tests.security.attacks.frames import open_socket

CONNECTIONS = 16
LARGE_FILE = b"GET /docs/assets/redoc.standalone.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Holder = Callable[[int], Awaitable[asyncio.StreamWriter]]


@pytest.fixture(scope="module")
async def small(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ServeProcess]:
    """A service with few connections."""
    uri = mongod_uri.replace("/?", "/test_connection_slots?")
    settings = {"MONGODB_URI": uri, "SEED_ON_START": "false", "MAX_CONNECTIONS": str(CONNECTIONS)}
    async with serving(tmp_path_factory.mktemp("small"), **settings) as process:
        yield process


async def stranger(port: int) -> asyncio.StreamWriter:
    """A socket that does not say who it is."""
    _, writer = await open_socket(port)
    return writer


async def unread_answer(port: int) -> asyncio.StreamWriter:
    """A connection that asks for a large file, and for more, and reads nothing of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(LARGE_FILE)
    await reader.readuntil(b"\r\n")
    writer.write(LARGE_FILE)
    return writer


async def silence(port: int) -> asyncio.StreamWriter:
    """A connection on which nothing comes."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("hold", [stranger, unread_answer, silence])
async def test_connections_that_wait_for_their_peer_make_room(hold: Holder, small: ServeProcess) -> None:
    port = port_of(small)
    held: list[asyncio.StreamWriter] = []
    try:
        for _ in range(2 * CONNECTIONS):
            with contextlib.suppress(AssertionError, ConnectionError, asyncio.IncompleteReadError):
                held.append(await hold(port))
        async with httpx.AsyncClient() as http:
            answers = [await http.get(f"{small.url}/healthz") for _ in range(3)]
    finally:
        for writer in held:
            writer.transport.abort()

    assert [answer.status_code for answer in answers] == [200] * 3
