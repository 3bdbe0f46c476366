"""Model calls through LiteLLM's Router, against a real HTTP server that answers as each test says."""

import json
import sys
from typing import Any

import pytest
from litellm._lazy_imports import get_default_encoding
from starlette.responses import Response

from app.kit.json_values import JsonObject
from app.services.llm.calls import Completion, RequestedToolCall, RunPurpose, TokenUsage
from app.services.llm.litellm_patches import performance
from app.services.llm.litellm_patches.setup import litellm
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer, Reply, completion


def with_usage(**usage: Any) -> JsonObject:  # noqa: ANN401 - a provider may count anything
    return completion("Good.") | {"usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **usage}}


async def test_a_call_carries_its_execution_and_returns_text_and_usage_without_cost_if_the_price_is_unknown(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    gateway = open_gateway(entry(model_server))

    answer = await gateway.complete(request(purpose=RunPurpose.ORCHESTRATE, temperature=0.2, max_tokens=500))

    assert answer == Completion("The work is done.", (), TokenUsage(10, 5), None, "house/model", "stop")
    call = model_server.calls[0]
    assert (call.execution_id, call.purpose) == ("exec_1", "orchestrate")
    assert (call.body["temperature"], call.body["max_tokens"]) == (0.2, 500)
    assert not call.body.get("stream")


async def test_tool_calls_come_with_their_arguments_as_the_model_wrote_them(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", completion("Let me count.", ("wordCount", {"text": "ä b"}), ("other", "{not json")))
    gateway = open_gateway(entry(model_server))

    answer = await gateway.complete(request())

    assert answer.text == "Let me count."
    assert answer.tool_calls == (
        RequestedToolCall("call_1_wordCount", "wordCount", json.dumps({"text": "ä b"})),
        RequestedToolCall("call_2_other", "other", "{not json"),
    )


async def test_tool_calls_of_one_turn_never_share_an_id(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    answer = completion(None, ("a", {}), ("b", {}), ("c", {}))
    for call in answer["choices"][0]["message"]["tool_calls"]:
        call["id"] = "same"
    model_server.on("work", answer)
    gateway = open_gateway(entry(model_server))

    calls = (await gateway.complete(request())).tool_calls

    assert [call.name for call in calls] == ["a", "b", "c"]
    assert len({call.id for call in calls}) == 3


async def test_a_known_price_becomes_a_cost(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    priced = entry(model_server, input_cost_per_token=1e-3, output_cost_per_token=1e-2)
    gateway = open_gateway(priced)

    answer = await gateway.complete(request())

    assert answer.cost_usd == pytest.approx(10 * 1e-3 + 5 * 1e-2)


async def test_a_price_from_litellms_own_table_becomes_a_cost(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    gateway = open_gateway(entry(model_server, model="openai/gpt-4"))

    answer = await gateway.complete(request())

    assert answer.cost_usd == pytest.approx(10 * 3e-5 + 5 * 6e-5)


async def test_an_answer_is_priced_once(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced: list[float] = []

    def counted(*arguments: Any, **options: Any) -> tuple[float, float]:  # noqa: ANN401 - LiteLLM's own
        costs = calculate(*arguments, **options)
        priced.append(sum(costs))
        return costs

    calculate = litellm.cost_calculator.cost_per_token
    for module in (litellm, litellm.cost_calculator):
        monkeypatch.setattr(module, "cost_per_token", counted)
    gateway = open_gateway(entry(model_server, model="openai/gpt-4"))

    answer = await gateway.complete(request())

    assert priced == [answer.cost_usd]


async def test_no_tokenizer_is_loaded_for_a_provider_that_counts(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []

    def load() -> object:
        loaded.append(True)
        return get_default_encoding()

    monkeypatch.setattr(performance, "get_default_encoding", load)
    gateway = open_gateway(entry(model_server))

    await gateway.complete(request())
    deltas: list[str] = []
    await gateway.complete(request(on_delta=deltas.append))

    assert deltas
    assert loaded == []
    assert litellm.main.encoding.encode("Say something.")
    assert loaded == [True]


async def test_tools_load_nothing_of_litellms_own_proxy(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litellm.responses.mcp.litellm_proxy_mcp_handler", None)
    tool = {"type": "function", "function": {"name": "wordCount", "parameters": {"type": "object"}}}
    deltas: list[str] = []

    await open_gateway(entry(model_server)).complete(request(tools=[tool]))
    await open_gateway(entry(model_server)).complete(request(tools=[tool], on_delta=deltas.append))

    assert all(
        call.body.keys() <= {"model", "messages", "tools", "stream", "stream_options"} for call in model_server.calls
    )
    assert len(model_server.calls) == 2


async def test_cache_tokens_are_counted_separately(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    model_server.on("work", with_usage(prompt_tokens_details={"cached_tokens": 4}, cache_creation_input_tokens=3))
    gateway = open_gateway(entry(model_server))

    answer = await gateway.complete(request())

    assert answer.usage == TokenUsage(10, 5, cache_read=4, cache_write=3)


@pytest.mark.parametrize("model", [{"model": "openai/gpt-4"}, {"input_cost_per_token": 1, "output_cost_per_token": 1}])
@pytest.mark.parametrize(
    ("usage", "kept"),
    [
        ({"prompt_tokens": -5}, TokenUsage(0, 5)),
        ({"prompt_tokens": None}, TokenUsage(0, 5)),
        ({"prompt_tokens": 10**12}, TokenUsage(0, 5)),
        ({"prompt_tokens": 10**400}, TokenUsage(0, 5)),
        ({"completion_tokens": 10**12}, TokenUsage(10, 0)),
        ({"completion_tokens": 0}, TokenUsage(10, 0)),
        ({"cache_creation_input_tokens": 10**12}, TokenUsage(10, 5)),
        ({"prompt_tokens_details": {"cached_tokens": 10**400}}, TokenUsage(10, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": 10**12}}, TokenUsage(10, 5)),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_absurd_count_of_tokens_counts_as_none_and_is_not_priced(
    open_gateway: OpenGateway, model_server: ModelServer, model: JsonObject, usage: JsonObject, kept: TokenUsage
) -> None:
    model_server.on("work", with_usage(**usage))
    gateway = open_gateway(entry(model_server, **model))

    answer = await gateway.complete(request())

    assert answer.text == "Good."
    assert answer.usage == kept
    assert answer.cost_usd is None


async def test_an_answer_without_a_count_of_tokens_has_no_cost(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    uncounted = completion("Good.")
    del uncounted["usage"]
    model_server.on("work", uncounted)
    gateway = open_gateway(entry(model_server, model="openai/gpt-4"))

    answer = await gateway.complete(request())

    assert (answer.text, answer.usage, answer.cost_usd) == ("Good.", TokenUsage(), None)


@pytest.mark.parametrize(
    "reply",
    [
        "A text that is long enough to come in several pieces.",
        completion("Let me look.", ("wordCount", {"text": "a b"})),
        completion(None, ("wordCount", {}), ("other", {"deep": [1, {"x": None}]})),
        completion("Too lo", finish_reason="length"),
    ],
)
async def test_a_streamed_answer_equals_the_plain_one(
    open_gateway: OpenGateway, model_server: ModelServer, reply: Reply
) -> None:
    model_server.on("work", reply)
    gateway = open_gateway(entry(model_server, input_cost_per_token=1e-3, output_cost_per_token=1e-2))
    pieces: list[str] = []

    plain = await gateway.complete(request())
    live = await gateway.complete(request(on_delta=pieces.append))

    assert live == plain
    assert "".join(pieces) == plain.text
    assert [call.body.get("stream", False) for call in model_server.calls] == [False, True]


async def test_an_entry_with_stream_is_streamed_without_watchers(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    gateway = open_gateway(entry(model_server, stream=True), entry(model_server, "house/plain"))

    await gateway.complete(request())
    await gateway.complete(request("house/plain"))

    assert [call.body.get("stream", False) for call in model_server.calls] == [True, False]


@pytest.mark.slow
async def test_calls_are_spread_over_the_usable_deployments_of_a_name_each_at_its_own_price(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", lambda call: f"From {call.model}.")
    keyless = {"model_name": "house/model", "litellm_params": {"model": "openai/keyless"}}
    gateway = open_gateway(
        keyless,
        entry(model_server, model="openai/dear", input_cost_per_token=1, output_cost_per_token=1),
        entry(model_server, model="openai/cheap", input_cost_per_token=0, output_cost_per_token=0),
    )

    answers = [await gateway.complete(request()) for _ in range(24)]

    assert {(answer.text, answer.cost_usd) for answer in answers} == {("From dear.", 15), ("From cheap.", 0)}


async def test_closing_one_gateway_leaves_the_others_and_later_ones_working(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    first, second = open_gateway(entry(model_server)), open_gateway(entry(model_server))
    await first.complete(request())

    await first.close()
    answer = await second.complete(request())
    await second.close()
    later = await open_gateway(entry(model_server)).complete(request())

    assert answer.text == later.text == "The work is done."


async def test_lone_surrogates_never_leave_the_gateway(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    raw = json.dumps(completion("half \ud83d", ("tool\udc00", '{"a": "\\ud800"}')))
    model_server.on("work", Response(raw, media_type="application/json"))
    gateway = open_gateway(entry(model_server))

    answer = await gateway.complete(request())

    assert answer.text == "half ?"
    assert answer.tool_calls[0].name == "tool?"
