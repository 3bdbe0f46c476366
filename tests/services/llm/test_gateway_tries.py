"""Retries and fallbacks, streams that do not begin, waits and numbers of attempts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from starlette.responses import StreamingResponse

from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits
from app.services.llm.failures.classification import wait_asked
from app.services.llm.failures.errors import (
    ModelCallFailed,
    ModelRateLimited,
    ModelTimedOut,
)
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_patches.setup import litellm
from tests.fixtures.gateways import LoadTable, OpenGateway, chunk, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, fault


async def test_a_failing_model_falls_back_and_the_answer_names_the_model_that_gave_it(
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
    """Set at the end of a test, which releases hanging answers."""
    event = asyncio.Event()
    yield event
    event.set()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
def test_a_wait_is_computed_by_the_providers_clock(headers: dict[str, str], seconds: float | None) -> None:
    refusal = httpx.HTTPStatusError(
        "", request=httpx.Request("POST", "http://model"), response=httpx.Response(429, headers=headers)
    )

    assert wait_asked(refusal) == seconds


@pytest.mark.slow
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
