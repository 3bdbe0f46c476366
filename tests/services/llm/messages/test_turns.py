"""Turns that go back: unchanged to the model that made them, and in a form that any other model takes."""

import json
from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.messages.turns import CARRIED_FIELDS, INVALID, NO_REASONING, NO_SIGNATURE, TurnReader, fit_turns
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.model_table import ModelEntry

THINKING: JsonObject = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
SEALED: JsonObject = {"type": "redacted_thinking", "data": "abc"}
CLAUDE = "anthropic/claude-sonnet-4-5"
ENABLED: JsonObject = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def model(name: str, **params: Any) -> Capabilities:  # noqa: ANN401 - LiteLLM's own parameters
    """A deployment of this model."""
    return Capabilities(ModelEntry("entry#0", "entry", {"model": name, **params}, {}))


def call(arguments: str = "{}", **attached: Any) -> JsonObject:  # noqa: ANN401 - any JSON value
    """A tool call of a turn, with what was attached to it."""
    return {"id": "call_1", "type": "function", "function": {"name": "echo", "arguments": arguments}, **attached}


def history(turn: JsonObject, *, result: str = '{"n": 1}') -> list[JsonObject]:
    """A conversation with a turn that called a tool, and the result."""
    return [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": "Let me.", **turn},
        {"role": "tool", "tool_call_id": "call_1", "name": "echo", "content": result},
    ]


def sent(messages: list[JsonObject], reader: Capabilities) -> list[JsonObject]:
    """The messages that such a model is sent."""
    before = json.dumps(messages)
    fitted = fit_turns({"messages": messages}, reader)["messages"]
    assert json.dumps(messages) == before
    return fitted


def origin_of(name: str) -> str:
    """The origin of a model's turns."""
    return TurnReader(ModelEntry("entry#0", "entry", {"model": name}, {})).origin


@pytest.mark.parametrize(
    ("name", "turn", "attached", "expected"),
    [
        (CLAUDE, {"thinking_blocks": [THINKING, SEALED], "reasoning_content": "Hm."}, {}, ["thinking_blocks"]),
        (
            "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            {"thinking_blocks": [THINKING]},
            {},
            ["thinking_blocks"],
        ),
        ("deepseek/deepseek-reasoner", {"reasoning_content": "Hm."}, {}, ["reasoning_content"]),
        ("moonshot/kimi-k2-thinking", {"reasoning_content": "Hm."}, {}, ["reasoning_content"]),
        ("openai/served-by-vllm", {"reasoning_content": "Hm."}, {}, ["reasoning_content"]),
        ("openrouter/some/model", {"reasoning_details": [{"data": "x"}]}, {}, ["reasoning_details"]),
        ("openai/gemini-3-pro-preview", {}, {"extra_content": {"google": {"thought_signature": "s"}}}, []),
        (
            "gemini/gemini-3-pro-preview",
            {"provider_specific_fields": {"thought_signatures": ["s"]}},
            {"provider_specific_fields": {"thought_signature": "s"}},
            ["provider_specific_fields"],
        ),
    ],
)
def test_a_model_gets_its_own_turns_back_unchanged_and_another_model_nothing_of_theirs(
    name: str, turn: JsonObject, attached: JsonObject, expected: list[str]
) -> None:
    messages = history({**turn, "origin": origin_of(name), "tool_calls": [call(**attached)]})

    _, own, result = sent(messages, model(name))
    _, foreign, _ = sent(messages, model("openai/gpt-4o"))

    assert own == {
        "role": "assistant",
        "content": "Let me.",
        "tool_calls": [call(**attached)],
        **{field: turn[field] for field in expected},
    }
    assert result == messages[2]
    assert foreign == {"role": "assistant", "content": "Let me.", "tool_calls": [call()]}


@pytest.mark.parametrize("arguments", ['{"text": "a b', '["a"]', "Count the words.", '{"a": 1}{"b": 2}', "7", "null"])
def test_arguments_that_are_no_json_object_go_back_as_one(arguments: str) -> None:
    _, turn, _ = sent(history({"tool_calls": [call(arguments)]}), model("openai/gpt-4o"))

    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {INVALID: arguments}


def test_no_arguments_are_an_empty_object_and_good_ones_stay_as_they_were_written() -> None:
    written = '{ "text" : "a b" }'
    _, empty, _ = sent(history({"tool_calls": [call("")]}), model("openai/gpt-4o"))
    _, good, _ = sent(history({"tool_calls": [call(written)]}), model("openai/gpt-4o"))

    assert empty["tool_calls"][0]["function"]["arguments"] == "{}"
    assert good["tool_calls"][0]["function"]["arguments"] == written


@pytest.mark.parametrize("params", [ENABLED, {"reasoning_effort": "low"}])
@pytest.mark.parametrize(
    "turn",
    [
        {},
        {"origin": origin_of("anthropic/claude-opus-4-1"), "thinking_blocks": [THINKING]},
        {"origin": "deepseek/deepseek-reasoner", "reasoning_content": "Hm."},
    ],
)
def test_a_model_that_wants_thinking_before_each_call_gets_foreign_calls_in_words(
    params: JsonObject, turn: JsonObject
) -> None:
    messages = [*history({**turn, "tool_calls": [call('{"n": 1}')]}), {"role": "user", "content": "And now?"}]

    _, said, result, last = sent(messages, model(CLAUDE, **params))

    assert said == {"role": "assistant", "content": 'Let me.\nCalled echo with {"n": 1}'}
    assert (result["role"], result["content"].splitlines()[1:]) == ("user", ['echo: {"n": 1}'])
    assert last == messages[-1]


@pytest.mark.parametrize(("kind", "in_words"), [("enabled", True), ("adaptive", False)])
def test_a_models_own_turn_without_its_thinking_is_sent_as_text_if_thinking_must_come_first(
    kind: str, in_words: bool
) -> None:
    turn = {"origin": origin_of(CLAUDE), "tool_calls": [call()]}

    _, own, result = sent(history(turn), model(CLAUDE, thinking={"type": kind}))

    assert ("tool_calls" not in own, result["role"]) == (in_words, "user" if in_words else "tool")


def test_a_model_that_does_not_think_gets_foreign_calls_as_calls() -> None:
    _, turn, result = sent(history({"tool_calls": [call()]}), model(CLAUDE))

    assert (turn["tool_calls"], result["role"]) == ([call()], "tool")


def test_thinking_does_not_go_back_once_it_is_switched_off() -> None:
    turn = {"origin": origin_of(CLAUDE), "thinking_blocks": [THINKING], "tool_calls": [call()]}

    _, own, _ = sent(history(turn), model(CLAUDE, thinking={"type": "disabled"}))

    assert "thinking_blocks" not in own


@pytest.mark.parametrize("name", ["deepseek/deepseek-reasoner", "openai/kimi-k2-thinking"])
@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({}, NO_REASONING),
        ({"origin": "openai/other", "reasoning_content": "Hm."}, "Hm."),
        ({"origin": origin_of(CLAUDE), "reasoning_content": "Hm.", "thinking_blocks": [THINKING]}, NO_REASONING),
    ],
)
def test_a_model_that_wants_reasoning_with_each_call_gets_some_but_no_signed_thinking(
    name: str, turn: JsonObject, expected: str
) -> None:
    _, fitted, _ = sent(history({**turn, "tool_calls": [call()]}), model(name))

    assert fitted["reasoning_content"] == expected
    assert not fitted.keys() & {"thinking_blocks", "origin"}


@pytest.mark.parametrize("name", ["openai/gpt-4o", "openai/o3-mini", "azure/gpt-5", "openai/gemini-3-pro-preview"])
def test_thoughts_found_in_a_text_do_not_go_back_as_a_field_that_the_provider_refuses(name: str) -> None:
    turn = {"origin": origin_of(name), "reasoning_content": "Hm.", "tool_calls": [call()]}

    _, own, _ = sent(history(turn), model(name))

    assert not own.keys() & {"reasoning_content", "reasoning"}


def test_a_model_that_has_shown_reasoning_wants_it_with_every_call() -> None:
    own = {"origin": "openai/house", "reasoning_content": "Hm.", "tool_calls": [call()]}
    messages = [*history({"tool_calls": [call()]}), *history(own)]

    fitted = sent(messages, model("openai/house"))

    assert [turn["reasoning_content"] for turn in fitted if turn["role"] == "assistant"] == [NO_REASONING, "Hm."]


def test_openai_compatible_gemini_accepts_foreign_calls_with_a_placeholder_signature() -> None:
    turns = history({"tool_calls": [call(), {**call(), "id": "call_2"}]})

    _, turn, *_ = sent(turns, model("openai/gemini-3-pro-preview"))
    _, older, *_ = sent(turns, model("openai/gemini-2.5-flash"))

    assert [one.get("extra_content") for one in turn["tool_calls"]] == [NO_SIGNATURE, None]
    assert all("extra_content" not in one for one in older["tool_calls"])


def test_openai_compatible_gemini_gets_a_placeholder_if_the_first_call_lost_its_signature() -> None:
    signed = call(extra_content={"google": {"thought_signature": "s"}})
    name = "openai/gemini-3-pro-preview"
    turns = history({"origin": origin_of(name), "tool_calls": [call(), {**signed, "id": "call_2"}]})

    _, turn, *_ = sent(turns, model(name))

    assert [one["extra_content"] for one in turn["tool_calls"]] == [NO_SIGNATURE, signed["extra_content"]]


@pytest.mark.parametrize("text", ["", " \n", None])
def test_no_blank_text_is_sent_back(text: str | None) -> None:
    messages: list[JsonObject] = [
        {"role": "assistant", "content": text},
        *history({"content": text, "tool_calls": [call()]}),
    ]

    alone, _, with_call, _ = sent(messages, model(CLAUDE))

    assert alone["content"].strip()
    assert with_call["content"] is None


@pytest.mark.parametrize(
    ("provider", "field"), [("groq", "reasoning"), ("openrouter", "reasoning"), ("hosted_vllm", "reasoning_content")]
)
def test_reasoning_is_sent_back_under_the_providers_name(provider: str, field: str) -> None:
    turn = {"origin": f"{provider}/model", "reasoning_content": "Hm.", "tool_calls": [call()]}

    _, own, _ = sent(history(turn), model(f"{provider}/model"))

    assert {name: own[name] for name in own.keys() & {"reasoning", "reasoning_content"}} == {field: "Hm."}


def test_claude_recognizes_its_turns_on_every_platform() -> None:
    names = (
        "anthropic/claude-sonnet-4-5",
        "anthropic/claude-sonnet-4-5-20250929",
        "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "vertex_ai/claude-sonnet-4-5@20250929",
    )

    assert len({origin_of(name) for name in names}) == 1
    assert origin_of("anthropic/claude-opus-4-5") != origin_of(names[0])


def test_no_internal_field_is_ever_sent() -> None:
    turn = {**dict.fromkeys(CARRIED_FIELDS, "x"), "plan": {}, "tool_calls": [call()]}

    _, fitted, _ = sent(history(turn), model("openai/gpt-4o"))

    assert fitted.keys() == {"role", "content", "tool_calls"}
