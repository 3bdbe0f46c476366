"""Requests reach each provider's model in its form: tools, ids, order, parameters and formats."""

import copy
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.kit.json_values import JsonObject
from app.services.llm.fitting.request import fit_request
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.lessons import NEEDS_ROOM, Lesson
from app.services.llm.model_info.model_table import ModelEntry

LOCAL = "http://127.0.0.1:9/v1"
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}, "why": {"type": "string", "minLength": 1}},
    "required": ["score", "why"],
    "additionalProperties": False,
}
FORMAT: JsonObject = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
TOOL: JsonObject = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
CALL: JsonObject = {"id": "call_1", "type": "function", "function": {"name": "count", "arguments": "{}"}}
HISTORY: list[JsonObject] = [
    {"role": "system", "content": "You count."},
    {"role": "user", "content": "Count."},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "name": "count", "content": "3"},
]
LAST: JsonObject = {"role": "user", "content": "Answer now."}


def model(name: str, info: JsonObject | None = None, **params: Any) -> Capabilities:  # noqa: ANN401 - LiteLLM's own
    """The capabilities of a model."""
    return Capabilities(ModelEntry("house#0", "house", {"model": name, **params}, info or {}))


def fitted(name: str | Capabilities, **arguments: Any) -> JsonObject:  # noqa: ANN401 - any argument of a call
    """A call's arguments as a model gets them; what was given stays as it was."""
    given = {"model": "house", "messages": [{"role": "user", "content": "Say something."}], **arguments}
    before = copy.deepcopy(given)
    result = fit_request(given, model(name) if isinstance(name, str) else name)
    assert given == before
    return result


def tool(name: str, **parameters: Any) -> JsonObject:  # noqa: ANN401 - any keyword of a schema
    """A tool with these parameters."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def test_tools_without_a_valid_form_and_duplicate_names_are_left_out() -> None:
    sent = fitted("openai/gpt-5", tools=[tool("list", type="array"), TOOL, tool("count", type="object", title="Other")])

    assert sent["tools"] == [tool("count", type="object", properties={})]


def test_the_log_names_a_tool_that_is_left_out_once() -> None:
    with capture_logs() as lines:
        for _ in range(2):
            fitted("openai/gpt-5", tools=[tool("logged-once", type="string"), TOOL])

    assert [(line["event"], line["log_level"], line["tool"]) for line in lines] == [
        ("tool-omitted", "warning", "logged-once")
    ]


def test_no_tool_is_sent_if_none_is_left() -> None:
    sent = fitted("openai/gpt-5", tools=[tool("list", type="array")], tool_choice="auto")

    assert not {"tools", "tool_choice"} & sent.keys()


def test_claude_is_given_the_tools_of_a_history_with_calls_and_may_not_call_them() -> None:
    sent = fitted("anthropic/claude-sonnet-4-5", messages=[*HISTORY, LAST])

    assert [one["function"]["name"] for one in sent["tools"]] == ["count"]
    assert sent["tool_choice"] == "none"
    assert "tools" not in fitted("openai/gpt-5", messages=[*HISTORY, LAST])


@pytest.mark.parametrize("name", ["mistral/mistral-large-latest", "openai/mistral-small", "hosted_vllm/Mixtral-8x7B"])
def test_mistral_never_sees_a_user_right_after_a_tool(name: str) -> None:
    sent = fitted(model(name, api_base=LOCAL), messages=[*HISTORY, LAST])

    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert sent["messages"][-1] == LAST
    assert sent["messages"][-2]["content"]


def test_others_get_their_messages_in_the_order_in_which_they_are() -> None:
    sent = fitted("openai/gpt-5", messages=[*HISTORY, LAST])

    assert sent["messages"] == [*HISTORY, LAST]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("mistral/mistral-large-latest", r"[a-zA-Z0-9]{9}"),
        ("openai/gpt-5", r"[a-zA-Z0-9_-]{1,64}"),
        ("anthropic/claude-opus-4-5", r"[a-zA-Z0-9_-]{1,64}"),
    ],
)
def test_ids_of_calls_are_in_the_models_form_and_lead_from_result_to_call(name: str, form: str) -> None:
    given = ["call_1", "functions.count:0", "x" * 90, "abcdefghi", "call_1_2_0"]
    messages: list[JsonObject] = [{"role": "user", "content": "Count."}]
    for identity in given:
        messages.append({"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": identity}]})
        messages.append({"role": "tool", "tool_call_id": identity, "content": "3"})

    sent = fitted(name, messages=messages, tools=[TOOL])["messages"]

    calls = [call["id"] for message in sent for call in message.get("tool_calls", ())]
    results = [message["tool_call_id"] for message in sent if message["role"] == "tool"]
    assert calls == results
    assert len(set(calls)) == len(given)
    assert all(re.fullmatch(form, identity) for identity in calls)
    assert calls[3] == "abcdefghi"
    assert calls == [
        call["id"]
        for message in fitted(name, messages=messages, tools=[TOOL])["messages"]
        for call in message.get("tool_calls", ())
    ]


def test_no_text_is_blank_and_claude_is_not_asked_to_continue_its_own_turn() -> None:
    messages: list[JsonObject] = [
        {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "Count."}]},
        {"role": "assistant", "content": "  "},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
        {"role": "assistant", "content": "Three"},
    ]

    sent = fitted("anthropic/claude-sonnet-4-5", messages=messages, tools=[TOOL])["messages"]

    assert sent[0]["content"] == [{"type": "text", "text": "Count."}]
    assert sent[3]["content"] is None
    assert all(str(message["content"]).strip() for message in sent)
    assert sent[-1]["role"] == "user"


@pytest.mark.parametrize(
    "params",
    [
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "low", "temperature": 0.7},
    ],
)
def test_claude_that_thinks_gets_no_temperature_no_small_limit_and_no_forced_tool(params: JsonObject) -> None:
    thinker = model("anthropic/claude-sonnet-4-5", **params)

    sent = fitted(thinker, temperature=0.2, max_tokens=500, tools=[TOOL], tool_choice="required")

    assert (params | sent).get("temperature") is None
    assert "max_tokens" not in sent
    assert sent["tool_choice"] == "auto"


def test_a_limit_of_the_entry_that_its_thoughts_would_use_up_is_raised() -> None:
    params: JsonObject = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 1000}

    assert fitted(model("anthropic/claude-sonnet-4-5", **params))["max_tokens"] == 3000


def test_claude_that_does_not_think_keeps_limit_and_temperature() -> None:
    sent = fitted("anthropic/claude-sonnet-4-5", temperature=0.2, max_tokens=500)

    assert (sent["temperature"], sent["max_tokens"]) == (0.2, 500)


@pytest.mark.parametrize(
    "name", ["openai/gpt-5", "openai/o3", "deepseek/deepseek-reasoner", "gemini/gemini-2.5-pro", "hosted_vllm/qwq-32b"]
)
def test_a_model_that_always_reasons_gets_no_limit_that_its_reasoning_would_use_up(name: str) -> None:
    sent = fitted(name, temperature=0.2, max_tokens=500)

    assert not {"max_tokens", "max_completion_tokens"} & sent.keys()


@pytest.mark.parametrize("name", ["openai/gpt-5", "openai/o3"])
def test_openais_reasoning_models_get_no_temperature(name: str) -> None:
    assert "temperature" not in fitted(model(name, api_base=LOCAL), temperature=0.2)


def test_model_info_states_what_a_name_does_not_show() -> None:
    thinker = model("openai/local", {"supports_reasoning": True}, api_base=LOCAL)
    plain = model("openai/local", {"supports_response_schema": False}, api_base=LOCAL)

    assert "max_tokens" not in fitted(thinker, max_tokens=500)
    assert fitted(plain, response_format=FORMAT)["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("name", ["deepseek/deepseek-chat", "openai/gpt-4-turbo", "openai/deepseek-v3"])
def test_a_model_with_json_but_without_schemas_gets_the_schema_in_words(name: str) -> None:
    sent = fitted(model(name, api_base=LOCAL), response_format=FORMAT, messages=HISTORY[:2])

    assert sent["response_format"] == {"type": "json_object"}
    assert sent["messages"][0]["content"].startswith("You count.")
    assert '"minLength": 1' in sent["messages"][0]["content"]
    assert sent["messages"][1] == HISTORY[1]


def test_a_model_without_response_formats_gets_only_words() -> None:
    sent = fitted("openai/gpt-4", response_format=FORMAT)

    assert "response_format" not in sent
    assert "JSON" in sent["messages"][0]["content"]


@pytest.mark.parametrize("name", ["anthropic/claude-sonnet-4-5", "openai/claude-sonnet-4-5", "openai/gpt-5"])
def test_a_schema_goes_out_in_the_strict_subset(name: str) -> None:
    sent = fitted(model(name, api_base=LOCAL), response_format=FORMAT)["response_format"]["json_schema"]

    assert sent["strict"] is True
    assert sent["schema"]["additionalProperties"] is False
    assert not {"minimum", "maximum"} & sent["schema"]["properties"]["score"].keys()
    assert "minLength" not in sent["schema"]["properties"]["why"]


def test_openai_is_not_promised_strictness_for_a_schema_with_optional_properties() -> None:
    schema = {**SCHEMA, "required": ["score"]}
    asked = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}

    assert fitted("openai/gpt-5", response_format=asked)["response_format"]["json_schema"] == {
        "name": "answer",
        "strict": False,
        "schema": schema,
    }


def test_requests_to_an_unknown_server_are_unchanged() -> None:
    sent = fitted(model("openai/local", api_base=LOCAL), response_format=FORMAT, temperature=0.2, max_tokens=500)

    assert (sent["response_format"], sent["temperature"], sent["max_tokens"]) == (FORMAT, 0.2, 500)


def test_a_lesson_from_a_refusal_is_applied() -> None:
    local = model("openai/local", api_base=LOCAL, top_p=0.9)
    for text in ("temperature", "top_p", NEEDS_ROOM, "response_format:words", "messages:no-user-after-tool"):
        local.lessons.add(Lesson(text))

    sent = fitted(local, messages=[*HISTORY, LAST], response_format=FORMAT, temperature=0.2, max_tokens=500)

    assert not {"temperature", "max_tokens", "response_format"} & sent.keys()
    assert sent["top_p"] is None
    assert [message["role"] for message in sent["messages"][-3:]] == ["tool", "assistant", "user"]
