"""The demo model as a LiteLLM custom provider, so that runs use the complete pipeline without a network."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from app.demo.model import DemoAnswer, answer
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallMetadata
from app.services.llm.gateway import METADATA_KEY
from app.services.llm.litellm_patches.setup import (
    LISTED_MODELS,
    CustomLLM,
    GenericStreamingChunk,
    ModelResponse,
    Usage,
    litellm,
)

PROVIDER = "demo"
CHARACTERS_A_TOKEN = 4
CHUNK_CHARACTERS = 48
LIST_PRICE: JsonObject = {
    "litellm_provider": PROVIDER,
    "mode": "chat",
    "max_input_tokens": 128_000,
    "input_cost_per_token": 1e-6,
    "output_cost_per_token": 5e-6,
    "cache_read_input_token_cost": 0,
    "cache_creation_input_token_cost": 0,
}
"""The demo model has a price, so that cost reports have figures to show; no one is billed."""


class DemoProvider(CustomLLM):
    """Answers with the demo model; tokens are counted as characters divided by four."""

    async def acompletion(self, *_: Any, **call: Any) -> ModelResponse:  # noqa: ANN401 - LiteLLM's own signature
        """Return a complete answer."""
        said = ask(call)
        message: JsonObject = {"role": "assistant", "content": said.text or None}
        if said.tool_calls:
            message["tool_calls"] = [
                {"id": wanted.id, "type": "function", "function": {"name": wanted.name, "arguments": wanted.arguments}}
                for wanted in said.tool_calls
            ]
        choice = {"index": 0, "finish_reason": finish_reason(said), "message": message}
        return ModelResponse(model=PROVIDER, choices=[choice], usage=usage_of(call, said))

    async def astreaming(  # pyright: ignore[reportIncompatibleMethodOverride] - LiteLLM declares a coroutine, yet iterates
        self,
        *_: Any,  # noqa: ANN401 - LiteLLM's own signature
        **call: Any,  # noqa: ANN401 - LiteLLM's own signature
    ) -> AsyncIterator[GenericStreamingChunk]:
        """Yield the same answer in chunks."""
        said = ask(call)
        for start in range(0, len(said.text), CHUNK_CHARACTERS):
            yield chunk(said.text[start : start + CHUNK_CHARACTERS])
            await asyncio.sleep(0)
        for place, wanted in enumerate(said.tool_calls):
            piece = chunk("")
            piece["tool_use"] = {
                "id": wanted.id,
                "type": "function",
                "function": {"name": wanted.name, "arguments": wanted.arguments},
                "index": place,
            }
            yield piece
        counted = usage_of(call, said)
        last = chunk("")
        last["is_finished"] = True
        last["finish_reason"] = finish_reason(said)
        last["usage"] = {
            "prompt_tokens": counted.prompt_tokens,
            "completion_tokens": counted.completion_tokens,
            "total_tokens": counted.total_tokens,
        }
        yield last


def ask(call: JsonObject) -> DemoAnswer:
    """Return the demo model's answer to a LiteLLM call."""
    metadata = ((call.get("litellm_params") or {}).get("metadata") or {}).get(METADATA_KEY)
    optional = call.get("optional_params") or {}
    headers = {str(name).lower(): value for name, value in (call.get("headers") or {}).items()}
    return answer(
        purpose=str(headers.get("x-run-purpose", "work")),
        messages=call["messages"],
        tools=optional.get("tools") or [],
        schema=((optional.get("response_format") or {}).get("json_schema") or {}).get("schema"),
        metadata=metadata if isinstance(metadata, CallMetadata) else None,
    )


def finish_reason(said: DemoAnswer) -> str:
    """Return the finish reason of the turn, in OpenAI's terms."""
    return "tool_calls" if said.tool_calls else "stop"


def usage_of(call: JsonObject, said: DemoAnswer) -> Usage:
    """Return the tokens of a call, estimated from its characters."""
    prompt = sum(len(str(message.get("content") or "")) for message in call["messages"])
    answered = len(said.text) + sum(len(wanted.arguments) for wanted in said.tool_calls)
    tokens = (prompt // CHARACTERS_A_TOKEN + 1, answered // CHARACTERS_A_TOKEN + 1)
    return Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1], total_tokens=sum(tokens))


def chunk(text: str) -> GenericStreamingChunk:
    """Return a chunk of a streamed answer."""
    return GenericStreamingChunk(text=text, tool_use=None, is_finished=False, finish_reason="", usage=None, index=0)


def register_demo_provider() -> None:
    """Make `demo/demo` callable through LiteLLM; registering twice changes nothing."""
    litellm.model_cost[f"{PROVIDER}/{PROVIDER}"] = LISTED_MODELS[f"{PROVIDER}/{PROVIDER}"] = LIST_PRICE
    if not any(entry["provider"] == PROVIDER for entry in litellm.custom_provider_map):
        litellm.custom_provider_map = [
            *litellm.custom_provider_map,
            {"provider": PROVIDER, "custom_handler": DemoProvider()},
        ]
