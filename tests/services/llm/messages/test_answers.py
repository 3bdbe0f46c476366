"""Answers keep all provider fields of a turn, and tool calls are distinguished however they are numbered."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelAnswerEmpty, ModelCallFailed, ModelContentRefused
from app.services.llm.messages.answers import MessageBuilder, answer_of
from app.services.llm.messages.turns import fit_turns
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.model_table import ModelEntry
from tests.fixtures.gateways import OpenGateway, chunk, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault

SIGNATURE: JsonObject = {"google": {"thought_signature": "c2lnbmVk"}}
DONE = (
    'data: {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, '
    '"delta": {}, "finish_reason": "tool_calls"}]}\n\ndata: [DONE]\n\n'
)


def fragment(name: str | None = None, arguments: str = "", **fields: Any) -> JsonObject:  # noqa: ANN401 - any JSON
    """A piece of a streamed tool call."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def streamed(*deltas: list[JsonObject]) -> Callable[[Call], Reply]:
    """A script that streams these tool call fragments."""
    parts = [chunk("", tool_calls=fragments) for fragments in deltas]

    async def body() -> AsyncIterator[str]:
        for part in (*parts, DONE):
            yield part

    return lambda _: StreamingResponse(body(), media_type="text/event-stream")


def unwatched(_: str) -> None:
    """Text that comes as it is made, for a reader who looks away."""


TWO = [("wordCount", {"text": "a"}), ("echo", {"n": 1})]
A, B = json.dumps(TWO[0][1]), json.dumps(TWO[1][1])


@pytest.mark.parametrize(
    "deltas",
    [
        [[fragment("wordCount", A, index=0, id="a")], [fragment("echo", B, index=0, id="b")]],
        [
            [fragment("wordCount", A[:5], index=0, id="a")],
            [fragment(None, A[5:], index=0)],
            [fragment("echo", B[:3], index=0, id="b")],
            [fragment(None, B[3:], index=0)],
        ],
        [[fragment("wordCount", A, index=None, id="a")], [fragment("echo", B, index=None, id="b")]],
        [[fragment("wordCount", A, index=None, id="a"), fragment("echo", B, index=None, id="b")]],
        [[fragment("wordCount", A, id="a")], [fragment("echo", B, id="b")]],
        [[fragment("wordCount", A, index=0)], [fragment("echo", B, index=1)]],
        [[fragment("wordCount", A, index=0)], [fragment("echo", B, index=0)]],
        [[fragment("wordCount", A)], [fragment("echo", B)]],
        [[fragment("wordCount", A, index=0, id="a")], [fragment("echo", B, index=1, id="a")]],
        [
            [fragment("wordCount", A[:5], index=0, id="a1")],
            [fragment(None, A[5:], index=0, id="a2")],
            [fragment("echo", B, index=1, id="b")],
        ],
        [
            [fragment("wordCount", "", index=0, id="a"), fragment("echo", "", index=1, id="b")],
            [fragment(None, B[:4], index=1)],
            [fragment(None, A, index=0)],
            [fragment(None, B[4:], index=1)],
        ],
    ],
    ids=[
        "all 0",
        "all 0 in parts",
        "null",
        "null in one chunk",
        "none",
        "no ids",
        "no ids, all 0",
        "neither",
        "one id",
        "an id a fragment",
        "interleaved",
    ],
)
async def test_two_streamed_calls_are_two_calls_however_they_are_numbered(
    open_gateway: OpenGateway, model_server: ModelServer, deltas: list[list[JsonObject]]
) -> None:
    model_server.on("work", streamed(*deltas))

    answer = await open_gateway(entry(model_server)).complete(request(on_delta=unwatched))

    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == TWO
    assert len({call.id for call in answer.tool_calls if call.id}) == 2


async def test_two_calls_of_one_tool_without_ids_are_two_calls(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", streamed([fragment("echo", A, index=0)], [fragment("echo", A, index=0)]))

    answer = await open_gateway(entry(model_server)).complete(request(on_delta=unwatched))

    assert [call.name for call in answer.tool_calls] == ["echo", "echo"]


@pytest.mark.parametrize("stream", [False, True])
async def test_provider_fields_of_a_turn_are_kept(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool
) -> None:
    reply = completion("Let me count.", ("wordCount", {"text": "a"}))
    message = reply["choices"][0]["message"]
    message["reasoning_content"] = "First I count."
    message["extra_content"] = SIGNATURE
    message["reasoning_details"] = [{"type": "reasoning.encrypted", "data": "abc"}]
    message["tool_calls"][0]["extra_content"] = SIGNATURE
    model_server.on("work", reply)

    answer = await open_gateway(entry(model_server)).complete(request(on_delta=unwatched if stream else None))

    assert (answer.text, answer.reasoning) == ("Let me count.", "First I count.")
    assert answer.provider_data == {
        "origin": "openai/scripted",
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}],
        "extra_content": SIGNATURE,
    }
    assert [call.attached for call in answer.tool_calls] == [{"extra_content": SIGNATURE}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_of_a_fallback_is_that_model_s_own_and_it_sees_nothing_of_the_first_one_s(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool
) -> None:
    thoughtful = completion("Good.")
    thoughtful["choices"][0]["message"]["reasoning_content"] = "Hm."
    model_server.on("work", lambda call: fault(500) if call.model == "one" else thoughtful)
    gateway = open_gateway(
        entry(model_server, "first", model="openai/one"),
        entry(model_server, "second", model="openai/two"),
        fallbacks=[{"first": ["second"]}],
    )
    turn = {"role": "assistant", "content": "Earlier.", "reasoning_content": "Hm.", "origin": "openai/one"}
    messages = [{"role": "user", "content": "Go."}, turn, {"role": "user", "content": "And now?"}]

    answer = await gateway.complete(request("first", messages=messages, on_delta=unwatched if stream else None))

    assert answer.provider_data == {"origin": "openai/two"}
    assert [call.messages[1].get("reasoning_content") for call in model_server.calls] == ["Hm.", None]


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_in_the_text_are_reasoning(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool
) -> None:
    model_server.on("work", "<think>\nHm, three.\n</think>\n\nThree.")

    answer = await open_gateway(entry(model_server)).complete(request(on_delta=unwatched if stream else None))

    assert (answer.text.strip(), (answer.reasoning or "").strip()) == ("Three.", "Hm, three.")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reasoning", [None, "I thought, and said nothing."])
async def test_an_answer_without_text_and_calls_fails_and_reports_its_cost(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool, reasoning: str | None
) -> None:
    reply = completion("")
    reply["choices"][0]["message"]["reasoning_content"] = reasoning
    model_server.on("work", reply)
    gateway = open_gateway(entry(model_server, input_cost_per_token=1, output_cost_per_token=1))

    with pytest.raises(ModelAnswerEmpty) as failed:
        await gateway.complete(request(on_delta=unwatched if stream else None))

    assert failed.value.is_passing
    assert [(call.usage.as_json()["total"], call.cost_usd) for call in failed.value.calls] == [(15, 15)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_in_parts_is_one_text_and_its_thinking_is_reasoning(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool
) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "One, "},
        {"type": "text", "text": "two."},
    ]
    reply = completion("")
    reply["choices"][0]["message"]["content"] = parts
    done = DONE.replace("tool_calls", "stop")

    async def body() -> AsyncIterator[str]:
        for piece in (*(chunk("", content=[part]) for part in parts), done):
            yield piece

    script = StreamingResponse(body(), media_type="text/event-stream") if stream else reply
    model_server.on("work", script)

    answer = await open_gateway(entry(model_server)).complete(request(on_delta=unwatched if stream else None))

    assert (answer.text, answer.reasoning) == ("One, two.", "Hm.")


async def test_an_answer_during_which_the_model_failed_is_no_answer(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    model_server.on("work", completion("Half an ans", finish_reason="error"))

    with pytest.raises(ModelCallFailed) as failed:
        await open_gateway(entry(model_server)).complete(request())

    assert (failed.value.code, failed.value.is_passing) == ("model-unavailable", True)
    assert failed.value.calls


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_the_provider_held_back_is_refused_content_and_paid_for(
    open_gateway: OpenGateway, model_server: ModelServer, stream: bool
) -> None:
    model_server.on("work", completion("", finish_reason="content_filter"))

    with pytest.raises(ModelContentRefused) as failed:
        await open_gateway(entry(model_server)).complete(request(on_delta=unwatched if stream else None))

    assert not failed.value.is_passing
    assert failed.value.calls


FRAGMENTS = st.fixed_dictionaries(
    {
        "index": st.none() | st.integers(0, 2),
        "id": st.none() | st.sampled_from(["", "a", "b"]),
        "function": st.fixed_dictionaries(
            {
                "name": st.none() | st.sampled_from(["", "echo", "count"]),
                "arguments": st.none() | st.sampled_from(["", "{}", '{"a"', ": 1}", "[]", "prose"]),
            }
        ),
    },
    optional={"extra_content": st.just(SIGNATURE)},
)
DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": st.sampled_from([None, "", " ", "Hm.", "<think>", "</think>"]),
        "reasoning_content": st.sampled_from([None, "", "Hm."]),
        "tool_calls": st.lists(FRAGMENTS, max_size=3),
        "thinking_blocks": st.lists(
            st.sampled_from(
                [
                    {"type": "thinking", "thinking": "a"},
                    {"type": "thinking", "thinking": "", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                ]
            ),
            max_size=2,
        ),
        "provider_specific_fields": st.just({"thought_signatures": ["s"]}),
    },
)
READERS = [
    Capabilities(ModelEntry("e#0", "e", {"model": name, "reasoning_effort": "low"}, {}))
    for name in (
        "anthropic/claude-sonnet-4-5",
        "openai/gpt-4o",
        "gemini/gemini-3-pro-preview",
        "deepseek/deepseek-chat",
    )
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(DELTAS, max_size=8), st.sampled_from(["openai/gpt-4o", "claude-sonnet-4-5", "elsewhere/model"]))
def test_any_stream_becomes_a_turn_that_every_model_accepts(deltas: list[JsonObject], origin: str) -> None:
    builder = MessageBuilder()
    for delta in deltas:
        builder.add(delta)
    answer = answer_of(builder.as_message())
    assert len({call.id for call in answer.tool_calls}) == len(answer.tool_calls)
    assert sum(len(call.arguments) for call in answer.tool_calls) == sum(
        len(fragment["function"]["arguments"] or "") for delta in deltas for fragment in delta.get("tool_calls") or []
    )
    calls = [
        {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}, **(call.attached or {})}
        for call in answer.tool_calls
    ]
    turn: JsonObject = {"role": "assistant", "content": answer.text, "origin": origin, **answer.carried}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "{}"} for call in calls]
    messages = [{"role": "user", "content": "Go."}, {**turn, "tool_calls": calls} if calls else turn, *results]

    for reader in READERS:
        fitted = fit_turns({"messages": messages}, reader)["messages"]
        said = [message for message in fitted if message["role"] == "assistant"]
        assert all("origin" not in message and (message["content"] or message.get("tool_calls")) for message in said)
        for call in (call for message in said for call in message.get("tool_calls") or []):
            assert isinstance(json.loads(call["function"]["arguments"]), dict)


def test_signed_thinking_is_joined_block_by_block_and_unsigned_thinking_is_left_out() -> None:
    builder = MessageBuilder()
    sealed: JsonObject = {"type": "redacted_thinking", "data": "c2VhbGVk"}
    for block in (
        {"type": "thinking", "thinking": "One, "},
        {"type": "thinking", "thinking": "two."},
        {"type": "thinking", "thinking": "", "signature": "s1"},
        sealed,
        {"type": "thinking", "thinking": "Three."},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "thinking", "thinking": "Never signed."},
    ):
        builder.add({"thinking_blocks": [block]})

    assert answer_of(builder.as_message()).carried == {
        "thinking_blocks": [
            {"type": "thinking", "thinking": "One, two.", "signature": "s1"},
            sealed,
            {"type": "thinking", "thinking": "Three.", "signature": "s2"},
        ]
    }
    assert answer_of({"content": "x", "thinking_blocks": [{"type": "thinking", "thinking": "x"}]}).carried == {}


def test_a_signature_in_a_call_s_id_is_attached_to_the_call_instead() -> None:
    call = {"id": "call_1__thought__c2ln", "function": {"name": "echo", "arguments": "{}"}}

    (found,) = answer_of({"tool_calls": [call]}).tool_calls

    assert (found.id, found.attached) == ("call_1", {"provider_specific_fields": {"thought_signature": "c2ln"}})


def test_a_call_in_the_form_of_old_is_a_tool_call() -> None:
    (found,) = answer_of({"content": None, "function_call": {"name": "echo", "arguments": "{}"}}).tool_calls

    assert (found.id, found.name, found.arguments) == ("call_1", "echo", "{}")
