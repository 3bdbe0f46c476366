"""Requests to providers whose prompt cache needs markers have them, and no other requests do."""

from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.calls import RunPurpose
from app.services.llm.fitting.request import fit_request
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.model_table import ModelEntry
from tests.fixtures.gateways import OpenGateway, request
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer

TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "count", "description": "Counts.", "parameters": {"type": "object", "properties": {}}},
}
CALL: JsonObject = {"id": "call_1", "type": "function", "function": {"name": "count", "arguments": "{}"}}
OPENING: list[JsonObject] = [{"role": "system", "content": "You count."}, {"role": "user", "content": "Count."}]
HISTORY: list[JsonObject] = [
    *OPENING,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "3"},
]
MARKER = {"type": "ephemeral"}


def marked_places(
    name: str,
    messages: list[JsonObject],
    info: JsonObject | None = None,
    tools: list[JsonObject] | None = None,
    **params: Any,  # noqa: ANN401 - LiteLLM's own parameters
) -> list[int]:
    """The positions of the messages with a marker in a fitted request."""
    model = Capabilities(ModelEntry("house#0", "house", {"model": name, **params}, info or {}))
    fitted = fit_request({"model": "house", "messages": messages, **({"tools": tools} if tools else {})}, model)
    return [place for place, message in enumerate(fitted["messages"]) if "cache_control" in str(message)]


@pytest.mark.parametrize(
    "name",
    [
        "anthropic/claude-sonnet-4-5",
        "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0",
        "vertex_ai/claude-sonnet-4-5",
    ],
)
def test_the_instructions_and_the_end_of_a_conversation_with_tools_are_marked(name: str) -> None:
    assert marked_places(name, OPENING) == [0]
    assert marked_places(name, OPENING, tools=[TOOL]) == [0, 1]
    assert marked_places(name, HISTORY, tools=[TOOL]) == [0, 3]


@pytest.mark.parametrize(
    "name",
    ["openai/gpt-4o", "gemini/gemini-2.5-flash", "vertex_ai/gemini-2.5-pro", "mistral/mistral-large-latest"],
)
def test_providers_that_recognize_beginnings_by_themselves_get_no_markers(name: str) -> None:
    assert marked_places(name, HISTORY, tools=[TOOL]) == []


def test_an_entry_decides_whether_its_model_gets_markers() -> None:
    gateway = "litellm_proxy/claude-next"

    assert marked_places(gateway, OPENING, {"supports_prompt_caching": True}) == []
    router = "openrouter/anthropic/claude-next"
    assert marked_places(router, OPENING, {"supports_prompt_caching": True}) == [0]
    assert marked_places("anthropic/claude-next", OPENING) == []
    assert marked_places("anthropic/claude-next", OPENING, {"supports_prompt_caching": True}) == [0]
    assert marked_places("anthropic/claude-sonnet-4-5", OPENING, {"supports_prompt_caching": False}) == []
    own: JsonObject = {"cache_control_injection_points": [{"location": "message", "role": "system"}]}
    assert marked_places("anthropic/claude-sonnet-4-5", OPENING, **own) == []


def test_a_content_of_several_parts_is_marked_at_its_last_one() -> None:
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    model = Capabilities(ModelEntry("house#0", "house", {"model": "anthropic/claude-sonnet-4-5"}, {}))

    fitted = fit_request({"messages": [{"role": "system", "content": parts}, OPENING[1]]}, model)

    assert fitted["messages"][0]["content"] == [parts[0], {**parts[1], "cache_control": MARKER}]
    assert "cache_control" not in str(parts)


async def test_the_beginning_that_requests_share_is_marked_where_it_ends(
    open_gateway: OpenGateway, provider_server: ProviderServer
) -> None:
    gateway = open_gateway(*(TWINS[name].entry(provider_server.url) for name in ("anthropic", "openai")))
    for shared in ("Count", "Count.", "Weigh"):
        for name in ("anthropic", "openai"):
            await gateway.complete(request(name, messages=OPENING, shared=shared))

    assert provider_server.violations == []
    contents = [
        one.ask.body["messages"][-1]["content"] for one in provider_server.received if one.ask.provider == "anthropic"
    ]
    assert contents == [
        [{"type": "text", "text": "Count", "cache_control": MARKER}, {"type": "text", "text": "."}],
        [{"type": "text", "text": "Count."}],
        [{"type": "text", "text": "Count."}],
    ]
    for one in provider_server.received:
        assert one.ask.provider == "anthropic" or one.ask.body["messages"] == OPENING


async def ask(gateway: ModelGateway, name: str, messages: list[JsonObject]) -> None:
    """Ask a model with a tool on offer."""
    await gateway.complete(request(name, messages=messages, tools=[TOOL], purpose=RunPurpose.WORK))


@pytest.mark.slow
async def test_markers_arrive_where_anthropic_accepts_them(
    open_gateway: OpenGateway, provider_server: ProviderServer
) -> None:
    gateway = open_gateway(*(TWINS[name].entry(provider_server.url) for name in ("anthropic", "openai")))

    for name in ("anthropic", "openai"):
        await ask(gateway, name, OPENING)
        await ask(gateway, name, HISTORY)

    assert provider_server.violations == []
    opening, history, *of_openai = [one.ask.body for one in provider_server.received]
    assert opening["system"][-1]["cache_control"] == MARKER
    assert opening["messages"][-1]["content"][-1]["cache_control"] == MARKER
    assert history["system"][-1]["cache_control"] == MARKER
    assert history["messages"][-1]["content"][-1]["type"] == "tool_result"
    assert history["messages"][-1]["content"][-1]["cache_control"] == MARKER
    assert str(opening).count("cache_control") == str(history).count("cache_control") == 2
    assert "cache_control" not in str(of_openai)
