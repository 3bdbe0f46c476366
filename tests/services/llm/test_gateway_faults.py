"""Model calls that fail, against a real HTTP server: each in its own words, and none in the provider's."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from app.models.json_values import JsonObject
from app.services.llm import plain_http, streams
from app.services.llm.calls import CallLimits
from app.services.llm.errors import (
    ModelAccessDenied,
    ModelAnswerInvalid,
    ModelAnswerTooLong,
    ModelCallFailed,
    ModelRateLimited,
    ModelRequestRefused,
    ModelTimedOut,
)
from app.services.llm.failures import wait_asked
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_setup import litellm
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.services.llm.conftest import LoadTable, OpenGateway, entry, request

SECRET = "sk-what-the-provider-says"


def with_message(**fields: Any) -> JsonObject:  # noqa: ANN401 - a model may answer anything
    answer = completion("Good.")
    answer["choices"][0]["message"] |= fields
    return answer


def chunk(text: str, **fields: Any) -> str:  # noqa: ANN401 - a model may stream anything
    choice = {"index": 0, "delta": {"role": "assistant", "content": text, **fields}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"


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
        (404, ModelRequestRefused, "model-request-refused"),
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
async def test_an_answer_that_is_no_completion_is_told_so(
    open_gateway: OpenGateway, model_server: ModelServer, garbage: Reply
) -> None:
    model_server.on("work", garbage)
    gateway = open_gateway(entry(model_server))

    with pytest.raises(ModelAnswerInvalid) as caught:
        await gateway.complete(request())

    assert caught.value.code == "model-answer-invalid"
    assert SECRET not in caught.value.message


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


async def test_nobody_at_the_address_is_a_model_that_cannot_be_reached(
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

    monkeypatch.setattr(plain_http, bound, 500_000)
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
    body = gzip.compress(b" " * (plain_http.MAX_BODY_BYTES + 1))
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


async def test_a_failing_model_falls_back_and_the_answer_names_who_gave_it(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", lambda call: fault(500) if call.model == "first" else "From the second.")
    gateway = open_gateway(
        entry(model_server, "house/first", model="openai/first"),
        entry(model_server, "house/second", model="openai/second", input_cost_per_token=1, output_cost_per_token=1),
        fallbacks=[{"house/first": ["house/second"]}],
    )

    answer = await gateway.complete(request("house/first"))

    assert (answer.text, answer.model, answer.cost_usd) == ("From the second.", "house/second", 15)


async def hung(released: asyncio.Event, *pieces: str) -> AsyncIterator[str]:
    """The body of a stream that says this, and then nothing."""
    for piece in pieces:
        yield piece
    await released.wait()


@pytest.fixture
def released() -> Iterator[asyncio.Event]:
    """Set at the end of a test: whoever hangs goes on."""
    event = asyncio.Event()
    yield event
    event.set()


@pytest.mark.parametrize("disable_cooldowns", [True, False])
@pytest.mark.parametrize("says_something", [True, False], ids=["headers come", "nothing comes"])
async def test_a_stream_that_does_not_begin_in_time_falls_back_and_each_deployment_has_as_long(
    open_gateway: OpenGateway,
    model_server: ModelServer,
    released: asyncio.Event,
    *,
    says_something: bool,
    disable_cooldowns: bool,
) -> None:
    async def answer(call: Call) -> Reply:
        if call.model == "third":
            await asyncio.sleep(0.2)
            return "From the third."
        if not says_something:
            await released.wait()
        return StreamingResponse(hung(released), media_type="text/event-stream")

    model_server.on("work", answer)
    gateway = open_gateway(
        entry(model_server, "house/first", model="openai/first"),
        entry(model_server, "house/second", model="openai/second"),
        entry(model_server, "house/third", model="openai/third"),
        limits=CallLimits(first_byte_seconds=0.5),
        timeout=20,
        disable_cooldowns=disable_cooldowns,
        fallbacks=[{"house/first": ["house/second", "house/third"]}],
    )
    pieces: list[str] = []

    async with asyncio.timeout(10):
        completion = await gateway.complete(request("house/first", on_delta=pieces.append))

    assert (completion.text, completion.model) == ("From the third.", "house/third")
    assert "".join(pieces) == completion.text
    assert [call.model for call in model_server.calls] == ["first", "second", "third"]


async def test_the_time_to_a_streams_headers_is_part_of_that_to_its_first_byte(
    open_gateway: OpenGateway, model_server: ModelServer, released: asyncio.Event
) -> None:
    async def answer(_: Call) -> Reply:
        await asyncio.sleep(0.7)
        return StreamingResponse(hung(released), media_type="text/event-stream")

    model_server.on("work", answer)
    gateway = open_gateway(entry(model_server), limits=CallLimits(first_byte_seconds=1), timeout=20)

    async with asyncio.timeout(1.5):
        with pytest.raises(ModelTimedOut):
            await gateway.complete(request(on_delta=str))


async def test_a_stream_that_has_begun_may_pause_for_as_long_as_a_stream_may(
    open_gateway: OpenGateway, model_server: ModelServer, released: asyncio.Event
) -> None:
    async def body() -> AsyncIterator[str]:
        yield chunk("Half.")
        await asyncio.sleep(0.8)
        async for piece in hung(released, chunk(" Whole.")):
            yield piece

    model_server.on("work", lambda _: StreamingResponse(body(), media_type="text/event-stream"))
    gateway = open_gateway(entry(model_server), limits=CallLimits(first_byte_seconds=0.5, idle_seconds=1.5))
    pieces: list[str] = []

    async with asyncio.timeout(10):
        with pytest.raises(ModelTimedOut):
            await gateway.complete(request(on_delta=pieces.append))

    assert "".join(pieces) == "Half. Whole."


async def test_a_stream_that_does_not_begin_frees_its_deployment(
    open_gateway: OpenGateway, model_server: ModelServer, released: asyncio.Event
) -> None:
    replies = iter([StreamingResponse(hung(released), media_type="text/event-stream"), "Now."])
    model_server.on("work", lambda _: next(replies))
    limits = CallLimits(first_byte_seconds=0.5)
    gateway = open_gateway(entry(model_server, max_parallel_requests=1), limits=limits)

    with pytest.raises(ModelTimedOut):
        await gateway.complete(request(on_delta=str))

    assert (await gateway.complete(request(on_delta=str))).text == "Now."


@pytest.mark.parametrize("live", [False, True])
async def test_the_wait_that_a_provider_asks_for_may_be_a_date(
    open_gateway: OpenGateway, model_server: ModelServer, live: bool
) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    model_server.on("work", fault(429, **{"Retry-After": in_a_minute}))

    with pytest.raises(ModelRateLimited) as caught:
        await open_gateway(entry(model_server)).complete(request(on_delta=str if live else None))

    assert caught.value.wait_seconds == pytest.approx(60, abs=10)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT", "Date": "Wed, 21 Oct 2099 07:27:18 GMT"}, 42),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:00 GMT"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "today"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -2359"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_a_wait_is_told_by_the_clock_of_who_asks_for_it(headers: dict[str, str], seconds: float | None) -> None:
    refusal = httpx.HTTPStatusError(
        "", request=httpx.Request("POST", "http://model"), response=httpx.Response(429, headers=headers)
    )

    assert wait_asked(refusal) == seconds


async def test_a_failed_call_is_tried_once_and_the_configuration_says_how_often_again(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", fault(500))
    gateway = open_gateway(entry(model_server), num_retries=4)
    own = open_gateway(entry(model_server, num_retries=1), num_retries=4)
    by_policy = open_gateway(entry(model_server), num_retries=4, retry_policy={"InternalServerErrorRetries": 1})

    for one in (gateway, own, by_policy):
        with pytest.raises(ModelCallFailed):
            await one.complete(request())

    assert [one.retries_of("house/model") for one in (gateway, own, by_policy)] == [4, 1, 0]
    assert len(model_server.calls) == 1 + 1 + 2


@pytest.mark.parametrize(
    ("settings", "retries"),
    [
        ({}, 2),
        ({"litellm_settings": {"num_retries": 4}}, 4),
        ({"litellm_settings": {"num_retries": 0}}, 0),
        ({"litellm_settings": {"num_retries": 4}, "router_settings": {"num_retries": 1}}, 1),
    ],
)
async def test_tries_may_be_set_for_all_of_litellm_and_the_routers_own_number_counts_first(
    load_table: LoadTable, model_server: ModelServer, settings: JsonObject, retries: int
) -> None:
    model_server.on("work", fault(500))
    gateway = ModelGateway(load_table({"model_list": [entry(model_server)], **settings}))

    with pytest.raises(ModelCallFailed):
        await gateway.complete(request())
    await gateway.close()

    assert gateway.retries_of("house/model") == retries
    assert len(model_server.calls) == 1


async def test_the_time_for_an_answer_may_be_set_for_all_of_litellm(
    load_table: LoadTable, model_server: ModelServer, released: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_: Call) -> Reply:
        await released.wait()
        return "Too late."

    monkeypatch.setattr(litellm, "request_timeout", litellm.request_timeout)
    model_server.on("work", hang)
    settings = {"litellm_settings": {"request_timeout": 0.3}}
    gateway = ModelGateway(load_table({"model_list": [entry(model_server)], **settings}))

    async with asyncio.timeout(10):
        with pytest.raises(ModelTimedOut):
            await gateway.complete(request())
    await gateway.close()
