"""Model calls that fail, against a real HTTP server: each in its own words, and none in the provider's."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import (
    ModelAccessDenied,
    ModelAnswerInvalid,
    ModelAnswerTooLong,
    ModelCallFailed,
    ModelNotFound,
    ModelRateLimited,
    ModelRequestRefused,
    ModelTimedOut,
)
from app.services.llm.litellm_patches import direct_http
from app.services.llm.messages import streams
from tests.fixtures.gateways import OpenGateway, chunk, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer

SECRET = "sk-what-the-provider-says"


def with_message(**fields: Any) -> JsonObject:  # noqa: ANN401 - a model may answer anything
    answer = completion("Good.")
    answer["choices"][0]["message"] |= fields
    return answer


def streamed(*pieces: str, breaks: bool = False) -> Response:
    """A stream that ends, or breaks, after these pieces."""

    async def body() -> AsyncIterator[str]:
        for piece in pieces:
            yield piece
        if breaks:
            raise ConnectionAbortedError

    return StreamingResponse(body(), media_type="text/event-stream")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, ModelRequestRefused, "model-request-refused"),
        (401, ModelAccessDenied, "model-access-denied"),
        (403, ModelAccessDenied, "model-access-denied"),
        (404, ModelNotFound, "model-not-found"),
        (422, ModelRequestRefused, "model-request-refused"),
        (429, ModelRateLimited, "model-rate-limited"),
        (500, ModelCallFailed, "model-unavailable"),
        (503, ModelCallFailed, "model-unavailable"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
async def test_a_providers_refusal_has_its_code_and_none_of_the_providers_words(
    open_gateway: OpenGateway,
    model_server: ModelServer,
    status: int,
    kind: type[ModelCallFailed],
    code: str,
    live: bool,
) -> None:
    model_server.on("work", fault(status, SECRET))
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelCallFailed) as caught:
        await gateway.complete(request(on_delta=str if live else None))

    assert type(caught.value) is kind
    assert caught.value.code == code
    assert str(status) in caught.value.message
    assert "house/model" in caught.value.message
    assert SECRET not in caught.value.message
    assert "key-of-the-tests" not in caught.value.message


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # OpenAI's client warns of garbage too
@pytest.mark.parametrize(
    "garbage",
    [
        HTMLResponse(f"<html>{SECRET}</html>"),
        PlainTextResponse("ok"),
        Response(b"", media_type="application/json"),
        JSONResponse(None),
        JSONResponse([]),
        JSONResponse({}),
        {**completion("x"), "choices": []},
        {**completion("x"), "choices": [None]},
        {**completion("x"), "choices": [{"index": 0}]},
        {**completion("x"), "usage": "many"},
        with_message(content=5),
        with_message(content=[{"type": "text"}]),
        with_message(tool_calls="wordCount"),
    ],
    ids=lambda reply: str(reply.body[:12] if isinstance(reply, Response) else reply)[-60:],
)
async def test_an_answer_that_is_not_a_completion_is_reported_as_such(
    open_gateway: OpenGateway, model_server: ModelServer, garbage: Reply
) -> None:
    model_server.on("work", garbage)
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelAnswerInvalid) as caught:
        await gateway.complete(request())

    assert caught.value.code == "model-answer-invalid"
    assert SECRET not in caught.value.message


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", "null", '{"candidates": [{"content": 7}]}'])
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("name", TWINS)
async def test_an_answer_that_cannot_be_read_is_no_refusal_on_any_wire_and_teaches_nothing(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str, live: bool, body: str
) -> None:
    provider_server.on("work", PlainTextResponse(body, media_type="application/json"))
    gateway = open_gateway(TWINS[name].entry(provider_server.url))
    messages: list[JsonObject] = [{"role": "user", "content": "Answer in JSON."}]
    asked = request(name, messages=messages, response_format={"type": "json_object"}, on_delta=str if live else None)

    with pytest.raises(ModelAnswerInvalid) as caught:
        await gateway.complete(asked)

    assert (caught.value.code, caught.value.is_passing, caught.value.is_adapted) == (
        "model-answer-invalid",
        True,
        False,
    )


@pytest.mark.parametrize("live", [False, True])
async def test_a_model_that_hangs_times_out(
    open_gateway: OpenGateway,
    model_server: ModelServer,
    live: bool,
) -> None:
    released = asyncio.Event()

    async def hang(_: Call) -> Reply:
        await released.wait()
        return "Too late."

    model_server.on("work", hang)
    gateway = open_gateway(entry(model_server), timeout=0.3)

    with pytest.raises(ModelTimedOut) as caught:
        await gateway.complete(request(on_delta=str if live else None))

    released.set()
    assert caught.value.code == "model-timeout"


async def test_a_stream_that_hangs_midway_times_out(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    released = asyncio.Event()

    async def body() -> AsyncIterator[str]:
        yield chunk("Half an ans")
        await released.wait()

    model_server.on("work", lambda _: StreamingResponse(body(), media_type="text/event-stream"))
    gateway = open_gateway(entry(model_server), timeout=0.3)

    with pytest.raises(ModelTimedOut):
        await gateway.complete(request(on_delta=str))

    released.set()


async def test_an_address_without_a_server_is_an_unreachable_model(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    gateway = open_gateway(entry(model_server, api_base="http://127.0.0.1:9/v1"))

    with capture_logs() as lines, pytest.raises(ModelCallFailed, match="cannot be reached") as caught:
        await gateway.complete(request())

    assert caught.value.code == "model-unavailable"
    assert [line["reason"] for line in lines] == [caught.value.message]


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([chunk("Half an ans")], ModelAnswerInvalid),
        ([chunk("Half an ans"), "data: {{{{\n\n"], ModelAnswerInvalid),
        ([f'data: {{"error": {{"message": "{SECRET}", "code": 503}}}}\n\n'], ModelCallFailed),
        ([f'data: {{"error": {{"message": "{SECRET}", "code": 429}}}}\n\n'], ModelRateLimited),
        ([chunk("Half"), f'data: {{"error": {{"message": "{SECRET}"}}}}\n\n'], ModelCallFailed),
    ],
)
async def test_a_stream_that_is_cut_is_no_answer(
    open_gateway: OpenGateway, model_server: ModelServer, pieces: list[str], kind: type[ModelCallFailed]
) -> None:
    model_server.on("work", lambda _: streamed(*pieces))
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelCallFailed) as caught:
        await gateway.complete(request(on_delta=str))

    assert type(caught.value) is kind
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("reply", "live"),
    [("x" * 1_000_001, False), (streamed(*(chunk(letter * 250_001) for letter in "abcd")), True)],
    ids=["plain", "live"],
)
async def test_an_answer_beyond_the_bound_is_refused_for_good_and_never_cut(
    open_gateway: OpenGateway, model_server: ModelServer, reply: Reply, live: bool
) -> None:
    model_server.on("work", reply)
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelAnswerTooLong, match="1000000 characters") as caught:
        await gateway.complete(request(on_delta=str if live else None))

    assert caught.value.code == "model-answer-invalid"
    assert not caught.value.is_passing


def asking_a_tool(arguments: str) -> JsonObject:
    """A piece of a tool call."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "wordCount", "arguments": arguments}}
    return {"tool_calls": [call]}


@pytest.mark.parametrize(
    "fields",
    [asking_a_tool("x" * 2_000), {"reasoning_content": "x" * 2_000}, {"content": "x"}],
    ids=["tool arguments", "reasoning", "small pieces"],
)
async def test_a_stream_that_never_ends_is_refused_for_good_and_closed(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, fields: JsonObject
) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield chunk("", **fields)
                await asyncio.sleep(0)
        finally:
            closed.set()

    monkeypatch.setattr(streams, "MAX_KEPT_CHARACTERS", 50_000)
    model_server.on("work", lambda _: StreamingResponse(endless(), media_type="text/event-stream"))
    gateway = open_gateway(entry(model_server))

    async with asyncio.timeout(20):
        with pytest.raises(ModelAnswerTooLong, match="50000 characters of all kinds") as caught:
            await gateway.complete(request(on_delta=str))
        await closed.wait()

    assert not caught.value.is_passing


@pytest.mark.parametrize("disable_cooldowns", [True, False], ids=["past httpx", "LiteLLM's way"])
@pytest.mark.parametrize(
    ("kind", "live", "bound"),
    [("application/json", False, "MAX_BODY_BYTES"), ("text/event-stream", True, "MAX_STREAM_BYTES")],
)
async def test_a_body_that_never_ends_is_read_up_to_a_bound(
    open_gateway: OpenGateway,
    model_server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    bound: str,
    *,
    live: bool,
    disable_cooldowns: bool,
) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b'data: {"id": "'
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)
        finally:
            closed.set()

    monkeypatch.setattr(direct_http, bound, 500_000)
    model_server.on("work", lambda _: StreamingResponse(endless(), media_type=kind))
    gateway = open_gateway(entry(model_server), disable_cooldowns=disable_cooldowns)

    async with asyncio.timeout(20):
        with pytest.raises(ModelAnswerTooLong, match="500000 bytes") as caught:
            await gateway.complete(request(on_delta=str if live else None))
        await closed.wait()

    assert not caught.value.is_passing


async def test_a_small_body_that_unpacks_beyond_the_bound_is_refused(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    body = gzip.compress(b" " * (direct_http.MAX_BODY_BYTES + 1))
    model_server.on("work", Response(body, media_type="application/json", headers={"Content-Encoding": "gzip"}))
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelAnswerTooLong, match="16000000 bytes"):
        await gateway.complete(request())


async def test_an_answer_of_the_longest_length_is_taken(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    model_server.on("work", "x" * 1_000_000)

    answer = await open_gateway(entry(model_server)).complete(request())

    assert len(answer.text) == 1_000_000


async def test_a_connection_that_breaks_midway_is_no_answer(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", lambda _: streamed(chunk("Half an ans"), breaks=True))
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelCallFailed, match="connection broke"):
        await gateway.complete(request(on_delta=str))
