"""The memory that an MCP server over HTTP can occupy is bounded."""

import gzip
from collections.abc import AsyncGenerator, AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from app.services.tools.mcp.http import MAX_MESSAGE_BYTES, bounded_client
from tests.fixtures.model_server import serve_app, stop_server

PIECE = b"x" * 256 * 1024
PIECES = 2 * MAX_MESSAGE_BYTES // len(PIECE)


async def pieces(between: bytes) -> AsyncIterator[bytes]:
    """Twice as much as a message may have."""
    for _ in range(PIECES):
        yield b"data: " + PIECE + between


async def answer(request: Request) -> Response:
    """Large JSON, one large event, many events that are large together, or a compressed body."""
    match request.path_params["kind"]:
        case "json":
            return StreamingResponse(pieces(b""), media_type="application/json")
        case "event":
            return StreamingResponse(pieces(b"\n"), media_type="text/event-stream")
        case "events":
            return StreamingResponse(pieces(b"\r\n\r\n"), media_type="text/event-stream")
        case _:
            return Response(gzip.compress(b"x" * 1000), headers={"content-encoding": "gzip"})


@pytest.fixture(scope="module")
async def server() -> AsyncGenerator[str]:
    """The server's address."""
    running, task, url = await serve_app(Starlette(routes=[Route("/{kind}", answer)]))
    yield url
    await stop_server(running, task)


async def read(url: str) -> int:
    """The number of bytes that are read of an answer."""
    async with bounded_client() as http, http.stream("GET", url) as response:
        return sum([len(part) async for part in response.aiter_bytes()])


@pytest.mark.parametrize("kind", ["json", "event"])
async def test_a_message_beyond_the_bound_fails_its_request(server: str, kind: str) -> None:
    with pytest.raises(httpx2.ReadError, match="more than 16777216 bytes"):
        await read(f"{server}/{kind}")


async def test_a_stream_of_many_events_continues(server: str) -> None:
    assert await read(f"{server}/events") > 2 * MAX_MESSAGE_BYTES


async def test_a_compressed_answer_is_refused(server: str) -> None:
    with pytest.raises(httpx2.DecodingError, match="compressed"):
        await read(f"{server}/gzip")
