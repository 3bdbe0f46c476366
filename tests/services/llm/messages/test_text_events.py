"""Merging of text events: LiteLLM reads fewer events with the same content, and followers see each text at once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.messages.text_events import MAX_MERGED_CHARACTERS, TextEventMerger
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply

TEXTS = ["The", " light", " is", " out", " —", " für", " immer", "."]
DONE = "data: [DONE]\n\n"


def chunk(delta: JsonObject, finish_reason: str | None = None, **fields: Any) -> str:  # noqa: ANN401 - any JSON value
    """A chunk of a chat completion in OpenAI's form."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**head, 'choices': [choice], **fields})}\n\n"


def block(text: str, index: int = 0) -> str:
    """A delta of a content block in Anthropic's form."""
    delta = {"type": "text_delta", "text": text}
    event = {"type": "content_block_delta", "index": index, "delta": delta}
    return f"event: content_block_delta\ndata: {json.dumps(event)}\n\n"


def said(text: str) -> str:
    """A chunk with a text alone."""
    return chunk({"content": text})


OPENAI = [chunk({"role": "assistant", "content": ""}), *map(said, TEXTS), chunk({}, "stop"), DONE]
ANTHROPIC = ['event: ping\ndata: {"type": "ping"}\n\n', *map(block, TEXTS), 'event: end\ndata: {"type": "end"}\n\n']


def merge(parts: Iterable[bytes]) -> tuple[str, list[str]]:
    """The part of a stream that LiteLLM reads, and the texts that were shown earlier."""
    shown: list[str] = []
    merger = TextEventMerger(shown.append)
    pieces = [piece for part in parts for piece in merger.feed(part)]
    return b"".join([*pieces, merger.end()]).decode(), shown


def texts_in(stream: str) -> list[str]:
    """The texts of the events in a stream."""
    rows = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data: {")]
    deltas = [row["delta"] if "delta" in row else row["choices"][0]["delta"] for row in rows if len(row) > 1]
    return [text for delta in deltas if (text := delta.get("content") or delta.get("text"))]


@pytest.mark.parametrize("events", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_texts_behind_the_first_become_one_event_in_the_same_place(events: list[str], line_end: str) -> None:
    read, shown = merge(event.replace("\n", line_end).encode() for event in events)

    assert texts_in(read) == [TEXTS[0], "".join(TEXTS[1:])]
    assert shown == TEXTS[1:]
    kept = [event for event in events if not texts_in(event)]
    places = [read.replace(line_end, "\n").index(event.strip()) for event in kept]
    assert places == sorted(places)
    assert places[0] < read.index(TEXTS[0]) < places[1]


@pytest.mark.parametrize("events", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def test_a_stream_may_arrive_in_any_two_parts(events: list[str]) -> None:
    whole = "".join(events).encode()
    expected = merge([whole])

    assert all(merge([whole[:cut], whole[cut:]]) == expected for cut in range(1, len(whole)))


@pytest.mark.parametrize(
    "event",
    [
        chunk({"content": "X"}, "stop"),
        chunk({"content": "X"}, usage={"total_tokens": 3}),
        chunk({"content": "X", "tool_calls": [{"index": 0}]}),
        chunk({"content": "X", "reasoning_content": "Y"}),
        chunk({"content": ["X"]}),
        chunk({"content": ""}),
        chunk({"content": "X"}, error={"message": "Y"}),
        chunk({"reasoning_content": "X"}),
        chunk({"content": "X"}, choices=[]),
        'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n\n',
        "data: not JSON\n\n",
        ": keep-alive\n\n",
        "retry: 3\n\n",
        'data: [1]\ndata: {"a": 2}\n\n',
    ],
)
def test_any_other_event_is_left_as_it_is_between_the_texts_around_it(event: str) -> None:
    read, shown = merge(
        "".join([said("1"), said("2"), said("3"), event, said("4"), said("5")]).encode().splitlines(True)
    )

    assert shown == ["2", "3", "4", "5"]
    before, found, behind = read.partition(event.rstrip("\n"))
    assert found
    assert (texts_in(before), texts_in(behind)) == (["1", "23"], ["45"])


@pytest.mark.parametrize(
    "other",
    [
        chunk({"content": "3"}, model="n"),
        chunk({"content": "3"}, citations=["a"]),
        chunk({"role": "assistant", "content": "3"}),
        block("3"),
        block("3", index=1),
    ],
)
def test_texts_of_events_that_differ_in_more_are_not_merged(other: str) -> None:
    read, shown = merge("".join([said("1"), said("2"), other, said("4")]).encode().splitlines(True))

    assert texts_in(read) == ["1", "2", "3", "4"]
    assert shown == ["2", "3", "4"]


def test_times_and_padding_may_differ() -> None:
    events = [chunk({"content": str(n)}, created=n, obfuscation="x" * n) for n in range(5)]

    read, _ = merge(event.encode() for event in events)

    assert texts_in(read) == ["0", "1234"]


def test_a_text_that_repeats_the_one_before_passes_so_that_endless_repetition_is_noticed() -> None:
    read, shown = merge(said(text).encode() for text in ["a", "b", "b", "b", "c"])

    assert texts_in(read) == ["a", "b", "b", "b", "c"]
    assert shown == ["b", "c"]


@pytest.mark.parametrize(("line_end", "event_end"), [("\n", ""), ("\r", "\r"), ("\r\n", "")])
def test_streams_with_other_line_ends_keep_their_texts(line_end: str, event_end: str) -> None:
    events = [event.strip() + line_end + event_end for event in OPENAI]

    read, shown = merge(event.encode() for event in events)

    assert "".join(texts_in(read)) == "".join(TEXTS)
    assert "".join(shown) in ("".join(TEXTS[1:]), "")
    assert read.rstrip().endswith("[DONE]")


def test_litellm_gets_a_long_text_in_pieces() -> None:
    texts = [f"{n} {'x' * 1000}" for n in range(40)]

    read, shown = merge(said(text).encode() for text in texts)

    assert "".join(texts_in(read)) == "".join(texts)
    assert max(map(len, texts_in(read))) < MAX_MERGED_CHARACTERS + 1100
    assert shown == texts[1:]


def streaming(*events: str, then: asyncio.Event | None = None, pause: float = 0, breaks: bool = False) -> Reply:
    """A reply that streams some events, waits and ends, or breaks off."""

    async def body() -> AsyncIterator[str]:
        for event in events:
            yield event
            await asyncio.sleep(pause)
        if then is not None:
            await then.wait()
        if breaks:
            raise ConnectionResetError("as scripted")
        yield chunk({}, "stop") + DONE

    return StreamingResponse(body(), media_type="text/event-stream")


async def test_each_text_is_shown_before_the_next_arrives(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    goes_on = asyncio.Event()
    model_server.on("work", streaming(*map(said, TEXTS), then=goes_on))
    pieces: list[str] = []

    call = asyncio.create_task(open_gateway(entry(model_server)).complete(request(on_delta=pieces.append)))
    async with asyncio.timeout(10):
        while len(pieces) < len(TEXTS):  # noqa: ASYNC110 - the gateway appends them
            await asyncio.sleep(0.01)
    assert not call.done()
    goes_on.set()

    assert (await call).text == "".join(TEXTS)
    assert pieces == TEXTS


async def test_texts_around_other_events_in_one_part_are_shown_in_their_order(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    events = [said("1"), said("2"), chunk({"content": "3", "logprobs": {"a": 1}}), said("4"), said("5")]
    model_server.on("work", streaming("".join(events)))
    pieces: list[str] = []

    completion = await open_gateway(entry(model_server)).complete(request(on_delta=pieces.append))

    assert (completion.text, "".join(pieces)) == ("12345", "12345")


async def test_a_stream_whose_texts_keep_coming_is_not_idle(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", streaming(*map(said, TEXTS), pause=0.2))
    gateway = open_gateway(entry(model_server), limits=CallLimits(idle_seconds=0.6))

    assert (await gateway.complete(request(on_delta=str))).text == "".join(TEXTS)


async def test_no_fallback_follows_texts_that_were_shown(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    def answer(call: Call) -> Reply:
        return streaming(*map(said, TEXTS), breaks=True) if call.model == "first" else "From the second."

    model_server.on("work", answer)
    gateway = open_gateway(
        entry(model_server, "house/first", model="openai/first"),
        entry(model_server, "house/second", model="openai/second"),
        fallbacks=[{"house/first": ["house/second"]}],
    )
    pieces: list[str] = []

    with pytest.raises(ModelCallFailed):
        await gateway.complete(request("house/first", on_delta=pieces.append))

    assert pieces == TEXTS
    assert [call.model for call in model_server.calls] == ["first"]
