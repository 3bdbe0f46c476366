"""Collection of a streamed answer, whose text is passed on as it arrives."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from pydantic import BaseModel

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelAnswerTooLong
from app.services.llm.litellm_patches.setup import hidden_params_of, litellm, set_hidden_params
from app.services.llm.messages.answers import MessageBuilder, fields_of
from app.services.llm.messages.text_events import LiveText

MAX_KEPT_CHARACTERS = 16_000_000
CHUNK_CHARACTERS = 100
"""The size of a chunk besides its texts: 160,000 chunks are more than any model's longest answer."""


class StreamCut(Exception):
    """The stream ended before the model finished its answer."""


async def collect_stream(stream: AsyncIterable[Any], live: LiveText, max_characters: int) -> tuple[Any, JsonObject]:
    """Return the response behind a stream of chunks, and its message.

    Raises:
        StreamCut: the stream ended without a finish reason.
        ModelAnswerTooLong: the text exceeds `max_characters`, or the other fields exceed their bound.
        TimeoutError: the next chunk or text did not arrive in time.
    """
    chunks: list[Any] = []
    message = MessageBuilder()
    characters = 0
    kept = 0
    finished = False
    async for chunk in paced(stream, live):
        chunks.append(chunk)
        kept += CHUNK_CHARACTERS + size_of(chunk)
        if kept > MAX_KEPT_CHARACTERS:
            raise ModelAnswerTooLong(f"{MAX_KEPT_CHARACTERS} characters of all kinds")
        choice = chunk.choices[0] if chunk.choices else None
        if choice is None:
            continue
        finished = finished or choice.finish_reason is not None
        delta = fields_of(choice.delta)
        message.add(delta)
        text = delta.get("content") or ""
        characters += len(text)
        if characters > max_characters:
            raise ModelAnswerTooLong(f"{max_characters} characters")
        if text:
            live.show_rest(text)
    if not finished or not ended_by_provider(stream):
        raise StreamCut("The model's stream ended without a finish reason.")
    response: Any = litellm.stream_chunk_builder(chunks)
    if response is None:
        raise StreamCut("The model's stream was empty.")
    set_hidden_params(response, hidden_params_of(stream))
    return response, message.as_message()


async def paced(stream: AsyncIterable[Any], live: LiveText) -> AsyncGenerator[Any]:
    """Yield the chunks of a stream that does not stall.

    Raises:
        TimeoutError: for `live.idle_seconds`, neither a chunk nor a text arrived.
    """
    chunks = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(live.idle_seconds) as live.limit:
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        yield chunk


def size_of(value: object) -> int:
    """Return the length of all texts in a chunk, including reasoning and tool calls."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, BaseModel):
        return sum(map(size_of, vars(value).values())) + size_of(value.model_extra)
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list) else 0


def ended_by_provider(stream: Any) -> bool:  # noqa: ANN401 - LiteLLM's stream
    """Return whether the provider itself ended its answer, as far as LiteLLM records it.

    LiteLLM ends every stream with a finish reason and makes one up if none arrived. Only the provider's is in
    its record of the chunks; that record stays the first attempt's when a fallback takes over midway.
    """
    record: list[Any] = getattr(stream, "chunks", None) or []
    if not record or getattr(stream, "fallback_headers_adopted", False):
        return True
    return any(choice.finish_reason is not None for chunk in record for choice in chunk.choices)
