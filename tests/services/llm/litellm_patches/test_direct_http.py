"""Whole answers are taken past httpx: to the gateway they look as those that LiteLLM fetches its own way."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelCallFailed, ModelTimedOut
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_patches import direct_http
from tests.fixtures.gateways import MODEL, OpenGateway, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.waiting import wait_until


@pytest.fixture
def plain_posts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were posted to past httpx."""
    posts: list[str] = []
    fetch = direct_http.fetch

    async def noting(transport: object, url: str, *rest: object) -> object:
        posts.append(url)
        return await fetch(transport, url, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(direct_http, "fetch", noting)
    return posts


async def outcome_of(gateway: ModelGateway) -> tuple[str, ...]:
    """The outcome of a call: its text, or its error and the wait that the provider asked for."""
    try:
        return ("answer", (await gateway.complete(request())).text)
    except ModelCallFailed as error:
        return (error.code, error.message, str(error.wait_seconds))


def zipped(_: Call) -> Reply:
    body = gzip.compress(json.dumps(completion("Small.")).encode())
    return Response(body, media_type="application/json", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    "reply",
    [
        "Well.",
        completion(None, ("wordCount", {"text": "a"})),
        zipped,
        Response(b"\x00\x01", media_type="application/json", headers={"Content-Encoding": "gzip"}),
        *(fault(status) for status in (400, 401, 403, 404, 409, 413, 422, 500, 502, 503)),
        JSONResponse({"error": {"message": "slower"}}, status_code=429, headers={"Retry-After": "7"}),
        Response(b"<html>Bad gateway</html>", status_code=502, media_type="text/html"),
        Response(b"", media_type="application/json"),
    ],
    ids=lambda reply: str(getattr(reply, "status_code", reply))[:20],
)
async def test_both_ways_report_the_same(
    open_gateway: OpenGateway,
    model_server: ModelServer,
    plain_posts: list[str],
    reply: Reply | Callable[[Call], Reply],
) -> None:
    model_server.on("work", reply)
    plain = open_gateway(entry(model_server))
    usual = open_gateway(entry(model_server), disable_cooldowns=False)

    reported = await outcome_of(plain)
    posts = len(plain_posts)

    assert reported == await outcome_of(usual)
    assert posts > 0
    assert len(plain_posts) == posts, "calls that LiteLLM counts and logs use its own handler"
    assert len({json.dumps(call.body, sort_keys=True) for call in model_server.calls}) == 1
    assert len({header_names(call) for call in model_server.calls}) == 1


def header_names(call: Call) -> tuple[str, ...]:
    """A request's headers without its length."""
    left_out = {"content-length", "host"}
    return tuple(sorted(f"{name}: {value}" for name, value in call.headers.items() if name not in left_out))


async def test_a_request_that_is_sent_elsewhere_follows(
    open_gateway: OpenGateway, model_server: ModelServer, plain_posts: list[str]
) -> None:
    replies = iter([RedirectResponse(f"{model_server.url}/v1/chat/completions"), "There."])
    model_server.on("work", lambda _: next(replies, "There."))

    answer = await open_gateway(entry(model_server)).complete(request())

    assert answer.text == "There."
    assert len(plain_posts) == 1


@pytest.mark.parametrize("hang_ups", [[True], [False, True], [True, True, True]])
async def test_a_server_that_hangs_up_is_reported_the_same_both_ways(
    open_gateway: OpenGateway, hang_ups: list[bool]
) -> None:
    reported: list[list[tuple[str, ...]]] = []
    for disable_cooldowns in (True, False):
        async with hanging_up(list(hang_ups)) as server:
            gateway = open_gateway(server.entry, disable_cooldowns=disable_cooldowns)
            reported.append([await outcome_of(gateway) for _ in range(3)])

    assert reported[0] == reported[1]


@pytest.mark.slow
@pytest.mark.parametrize("disable_cooldowns", [True, False])
async def test_a_connection_that_may_soon_be_closed_is_not_used_again(
    open_gateway: OpenGateway, *, disable_cooldowns: bool
) -> None:
    async with hanging_up([]) as server:
        gateway = open_gateway(server.entry, disable_cooldowns=disable_cooldowns)
        await gateway.complete(request())
        await gateway.complete(request())
        before = server.connections
        await asyncio.sleep(4.1)
        await gateway.complete(request())

    assert (before, server.connections) == (1, 2)


@pytest.mark.parametrize("disable_cooldowns", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
async def test_an_address_that_never_connects_fails_long_before_the_answer_timeout(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch, *, disable_cooldowns: bool, streamed: bool
) -> None:
    monkeypatch.setattr(direct_http, "CONNECT_SECONDS", 0.2)
    with never_accepting() as port:
        gateway = open_gateway(Listener(port).entry, timeout=60, disable_cooldowns=disable_cooldowns)
        async with asyncio.timeout(20):
            with pytest.raises(ModelTimedOut):
                await gateway.complete(request(on_delta=str if streamed else None))


@contextlib.contextmanager
def never_accepting() -> Generator[int]:
    """A port whose queue of connections is full: the system answers no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        port = server.getsockname()[1]
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


@dataclass
class Listener:
    """A model server that has nothing but a socket."""

    port: int = 0
    connections: int = 0

    @property
    def entry(self) -> JsonObject:
        """Its entry of `model_list`."""
        params = {"model": "openai/scripted", "api_base": f"http://127.0.0.1:{self.port}/v1", "api_key": "key"}
        return {"model_name": MODEL, "litellm_params": params}


@asynccontextmanager
async def hanging_up(turns: list[bool]) -> AsyncGenerator[Listener]:
    """A server that hangs up instead of answering at these turns, and answers all later ones."""
    listener = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        answer = json.dumps(completion("Heard.")).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                if turns and turns.pop(0):
                    break
                writer.write(head + answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener
        server.close()


async def test_a_cancelled_call_closes_its_connection(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    begun = asyncio.Event()

    async def hang(_: Call) -> Reply:
        begun.set()
        await asyncio.sleep(30)
        return "Too late."

    model_server.on("work", hang)
    call = asyncio.create_task(open_gateway(entry(model_server)).complete(request()))
    await begun.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await wait_until(lambda: bool(model_server.abandoned))
