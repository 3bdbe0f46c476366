"""The provider twins: each rule refuses a bad request in its provider's words, and lets a good one pass."""

import copy
import json
from collections.abc import AsyncGenerator, Callable

import httpx
import pytest

from tests.fixtures.providers.anthropic_wire import JSON_TOOL
from tests.fixtures.providers.brain import Answer, Damaged, ToolUse
from tests.fixtures.providers.faults import ERROR_RESPONSES, Fault, Json
from tests.fixtures.providers.good_requests import (
    PARAMETERS,
    anthropic_body,
    chat_body,
    gemini_body,
    good_body,
    ollama_body,
)
from tests.fixtures.providers.registry import KEY, PROVIDERS, TWINS, Provider
from tests.fixtures.providers.server import ProviderServer
from tests.fixtures.providers.signatures import PLACEHOLDER

TWO_CALLS = (ToolUse("echo", {"n": 1}), ToolUse("echo", {"n": 2}))


def path_of(provider: Provider, model: str = "gemini-3-pro-preview", method: str = "generateContent") -> str:
    """The path of a provider's requests."""
    ends = {"anthropic": "/v1/messages", "gemini": f"/models/{model}:{method}", "ollama": "/api/chat"}
    return f"/{provider.name}{provider.base}{ends.get(provider.name, '/chat/completions')}"


@pytest.fixture(scope="module")
async def http(shared_provider_server: ProviderServer) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the twins' address."""
    async with httpx.AsyncClient(base_url=shared_provider_server.url) as client:
        yield client


async def post(
    http: httpx.AsyncClient, name: str, body: Json, *, key: str = KEY, purpose: str = "work"
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "X-Run-Purpose": purpose}
    return await http.post(path_of(PROVIDERS[name]), json=body, headers=headers)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_twin_accepts_a_valid_request(
    provider_server: ProviderServer, http: httpx.AsyncClient, name: str
) -> None:
    answer = await post(http, name, good_body(name))

    assert answer.status_code == 200, answer.text
    assert "The work is done." in answer.text
    assert provider_server.violations == []


def last_user_text(body: Json) -> None:
    body["messages"].append({"role": "user", "content": "Continue."})


def no_result(body: Json) -> None:
    del body["messages"][-1]


def stray_result(body: Json) -> None:
    body["messages"][-1]["tool_call_id"] = "b00000009"


def no_properties(body: Json) -> None:
    body["tools"][0]["function"]["parameters"] = {"type": "object"}


def alternatives(body: Json) -> None:
    body["tools"][0]["function"]["parameters"] = {**PARAMETERS, "anyOf": []}


def bad_name(body: Json) -> None:
    body["tools"][0]["function"]["name"] = "files/read"


def bad_arguments(body: Json) -> None:
    body["messages"][2]["tool_calls"][0]["function"]["arguments"] = '{"text": "a b'


def array_arguments(body: Json) -> None:
    body["messages"][2]["tool_calls"][0]["function"]["arguments"] = '["a"]'


def long_id(body: Json) -> None:
    body["messages"][2]["tool_calls"][0]["id"] = body["messages"][3]["tool_call_id"] = "x" * 65


def no_tools(body: Json) -> None:
    body["tools"] = []


def reasoning_field(body: Json) -> None:
    body["messages"][2]["reasoning_content"] = "Hm."


def no_reasoning(body: Json) -> None:
    del body["messages"][2]["reasoning_content"]


def signature_lost(body: Json) -> None:
    del body["messages"][2]["tool_calls"][0]["extra_content"]


def schema_format(body: Json) -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


def open_schema(body: Json) -> None:
    schema_format(body)
    del body["response_format"]["json_schema"]["schema"]["additionalProperties"]


def older_with_schema(body: Json) -> None:
    body["model"] = "gpt-4-turbo"
    schema_format(body)


def json_unmentioned(body: Json) -> None:
    body["response_format"] = {"type": "json_object"}
    body["messages"][1]["content"] = "Answer."


def reasoner_temperature(body: Json) -> None:
    body |= {"model": "o3-mini", "temperature": 0.2}


def reasoner_max_tokens(body: Json) -> None:
    body |= {"model": "o3-mini", "max_tokens": 500}


def blank_assistant(body: Json) -> None:
    body["messages"] = [*body["messages"][:2], {"role": "assistant", "content": None}, body["messages"][1]]


def ends_with_assistant(body: Json) -> None:
    body["messages"].append({"role": "assistant", "content": "Done."})


def marked_part(body: Json) -> None:
    body["messages"][1]["content"] = [{"type": "text", "text": "Hm.", "cache_control": {"type": "ephemeral"}}]


CHAT_REFUSALS: list[tuple[str, Callable[[Json], None], str]] = [
    ("openai", no_result, "did not have response messages: a00000002"),
    ("openai", stray_result, "must be a response to a preceeding message with 'tool_calls'"),
    ("openai", no_properties, "object schema missing properties"),
    ("openai", alternatives, "not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level"),
    ("openai", bad_name, "does not match pattern"),
    ("openai", long_id, "maximum length 64"),
    ("openai", no_tools, "empty array"),
    ("openai", reasoning_field, "Unknown parameter: 'messages[2].reasoning_content'"),
    ("openai", marked_part, "Unknown parameter: 'messages[1].content[0].cache_control'"),
    ("openai", open_schema, "'additionalProperties' is required to be supplied and to be false"),
    ("openai", older_with_schema, "'json_schema' is not supported with this model"),
    ("openai", json_unmentioned, "must contain the word 'json'"),
    ("openai", reasoner_temperature, "Only the default (1) value is supported"),
    ("openai", reasoner_max_tokens, "Use 'max_completion_tokens' instead"),
    ("openai", blank_assistant, "expected a string, got null"),
    ("gemini-compatible", signature_lost, "missing a thought_signature"),
    ("mistral", last_user_text, "Unexpected role 'user' after role 'tool'"),
    ("mistral", no_result, "Not the same number of function calls and responses"),
    ("mistral", long_id, "must be a-z, A-Z, 0-9, with a length of 9"),
    ("mistral", reasoning_field, "Extra inputs are not permitted"),
    ("mistral", ends_with_assistant, "Expected last role User or Tool"),
    ("mistral", blank_assistant, "must have either content or tool_calls"),
    ("deepseek", no_reasoning, "Missing `reasoning_content` field in the assistant message at message index 2"),
    ("deepseek", schema_format, "This response_format type is unavailable now"),
    ("deepseek", no_properties, "object schema missing properties"),
    ("kimi", no_reasoning, "reasoning_content is missing in assistant tool call message at index 2"),
    ("vllm", bad_arguments, "Expecting value"),
    ("vllm", array_arguments, "Can only get item pairs from a mapping"),
    ("ollama-compatible", bad_arguments, "invalid tool call arguments"),
    ("ollama-compatible", blank_assistant, "got null"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), CHAT_REFUSALS)
def test_a_twin_with_openais_api_rejects_what_its_provider_rejects(
    name: str, spoil: Callable[[Json], None], said: str
) -> None:
    body = good_body(name)
    spoil(body)

    assert any(said in text for text in PROVIDERS[name].violations(body))


def spoiled(body: Json, *changes: tuple[tuple[str | int, ...], object]) -> Json:
    """A copy with values set at paths; `...` removes one."""
    body = copy.deepcopy(body)
    for path, value in changes:
        target = body
        for key in path[:-1]:
            target = target[key]  # pyright: ignore[reportArgumentType] - a path through lists and objects
        if value is ...:
            del target[path[-1]]  # pyright: ignore[reportArgumentType] - the same
        else:
            target[path[-1]] = value  # pyright: ignore[reportArgumentType] - the same
    return body


MESSAGE, RESULT, CALL = ("messages", 1, "content"), ("messages", 2, "content"), ("messages", 1, "content", 2)
SCHEMA = {"type": "object", "properties": {"n": {"type": "number", "minimum": 0}}, "additionalProperties": False}
ANTHROPIC_REFUSALS: list[tuple[tuple[tuple[str | int, ...], object], str]] = [
    ((("max_tokens",), ...), "max_tokens: Field required"),
    ((("max_tokens",), 1024), "`max_tokens` must be greater than `thinking.budget_tokens`"),
    ((("temperature",), 0.2), "`temperature` may only be set to 1 when thinking is enabled"),
    ((("tool_choice",), {"type": "any"}), "Thinking may not be enabled when tool_choice forces tool use"),
    (((*MESSAGE, 0), ...), "Expected `thinking` or `redacted_thinking`, but found `text`"),
    (((*MESSAGE, 0, "thinking"), "Hm!"), "Invalid `signature` in `thinking` block"),
    (((*MESSAGE, 1, "text"), "\n "), "text content blocks must contain non-whitespace text"),
    (((*CALL, "id"), "functions.echo:0"), "String should match pattern '^[a-zA-Z0-9_-]+$'"),
    (((*CALL, "input"), '{"n": 1'), "input: Input should be a valid dictionary"),
    (((*CALL, "name"), "files/read"), "name: String should match pattern"),
    (((*RESULT, 0, "tool_use_id"), "toolu_2"), "without `tool_result` blocks immediately after: toolu_1"),
    (((*RESULT, 0), {"type": "text", "text": "Continue."}), "without `tool_result` blocks immediately after: toolu_1"),
    ((("messages", 2), ...), "does not support assistant message prefill"),
    ((("messages", 0), ...), 'first message must use the "user" role'),
    ((("tools",), ...), "must define tools"),
    ((("tools",), [{"name": "echo", "input_schema": PARAMETERS}] * 2), "Tool names must be unique"),
    ((("tools", 0, "input_schema"), {}), "input_schema.type: Field required"),
    ((("tools", 0, "input_schema", "anyOf"), []), "does not support oneOf, allOf, or anyOf at the top level"),
    ((("tools", 0, "name"), "files/read"), "name: String should match pattern"),
    ((("output_format",), {"type": "json_schema", "schema": SCHEMA}), "properties minimum are not supported"),
    (((*MESSAGE, 0, "cache_control"), {"type": "ephemeral"}), "thinking.cache_control: Extra inputs are not permitted"),
    (((*MESSAGE, 1, "cache_control"), {"type": "forever"}), "type: Input should be 'ephemeral'"),
    (((*CALL, "cache_control"), {"type": "ephemeral", "ttl": "2h"}), "ttl: Input should be '5m' or '1h'"),
    ((("messages", 2, "cache_control"), {"type": "ephemeral"}), "messages.2.cache_control: Extra inputs"),
    ((("system",), [{"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}] * 5), "Found 5."),
    ((("output_format",), {"type": "json_schema", "schema": PARAMETERS}), "must be explicitly set to false"),
]


@pytest.mark.parametrize(("change", "said"), ANTHROPIC_REFUSALS)
def test_anthropics_twin_rejects_what_anthropic_rejects(
    change: tuple[tuple[str | int, ...], object], said: str
) -> None:
    found = PROVIDERS["anthropic"].violations(spoiled(anthropic_body(), change))

    assert any(said in text for text in found), found


DECLARATION = ("tools", 0, "functionDeclarations", 0)
GEMINI_REFUSALS: list[tuple[tuple[tuple[str | int, ...], object], str]] = [
    ((("contents",), []), "contents is not specified"),
    ((("contents", 0), ...), "comes immediately after a user turn"),
    ((("contents", 0, "parts"), []), "contents.parts must not be empty"),
    ((("contents", 2), ...), "number of function response parts is equal"),
    ((("contents", 1, "parts", 0, "functionCall", "args"), "n"), "a struct is expected"),
    ((("contents", 1, "parts", 0, "thoughtSignature"), ...), "missing a thought_signature"),
    (((*DECLARATION, "name"), "1/2"), "Invalid function name"),
    (((*DECLARATION, "parameters", "additionalProperties"), False), 'Unknown name "additionalProperties"'),
]


@pytest.mark.parametrize(("change", "said"), GEMINI_REFUSALS)
def test_geminis_twin_rejects_what_gemini_rejects(change: tuple[tuple[str | int, ...], object], said: str) -> None:
    found = PROVIDERS["gemini"].violations({**spoiled(gemini_body(), change), "model": "gemini-3-pro-preview"})

    assert any(said in text for text in found), found


def test_geminis_twin_accepts_the_documented_placeholder_for_a_signature() -> None:
    body = spoiled(gemini_body(), (("contents", 1, "parts", 0, "thoughtSignature"), PLACEHOLDER))

    assert PROVIDERS["gemini"].violations({**body, "model": "gemini-3-pro-preview"}) == []


REFUSED_ANYWHERE: list[tuple[str, Json, str]] = [
    ("anthropic", spoiled(anthropic_body(), (("temperature",), 0.2)), "`temperature` may only be set to 1"),
    ("gemini", spoiled(gemini_body(), (("contents",), [])), "contents is not specified"),
    ("mistral", chat_body("mistral-large-latest", "call_1", "call_2"), "with a length of 9"),
    ("openai", {**chat_body("gpt-4o"), "tools": []}, "empty array"),
    ("deepseek", chat_body("deepseek-reasoner"), "Missing `reasoning_content`"),
    ("kimi", chat_body("kimi-k2-thinking"), "reasoning_content is missing"),
    ("gemini-compatible", chat_body("gemini-3-pro-preview"), "missing a thought_signature"),
    (
        "ollama",
        spoiled(ollama_body(), (("messages", 1, "tool_calls", 0, "function", "arguments"), '{"n": 1}')),
        "cannot unmarshal string",
    ),
]


@pytest.mark.parametrize(("name", "body", "said"), REFUSED_ANYWHERE)
async def test_a_refusal_is_a_400_in_the_providers_own_form(
    provider_server: ProviderServer, http: httpx.AsyncClient, name: str, body: Json, said: str
) -> None:
    answer = await post(http, name, body)

    provider = PROVIDERS[name]
    found = provider_server.received[0]
    assert answer.status_code == 400
    assert answer.json() == provider.form(provider.refusals(found.ask.body)[0])
    assert said in found.violations[0]


@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_provider_has_its_words_for_every_fault(
    provider_server: ProviderServer, http: httpx.AsyncClient, name: str
) -> None:
    for fault in ERROR_RESPONSES:
        provider_server.on("work", fault)

        answer = await post(http, name, good_body(name))

        refusal = PROVIDERS[name].faults[fault]
        assert answer.status_code == refusal.status >= 400
        assert refusal.message.split("{")[0] in json.dumps(answer.json(), ensure_ascii=False).replace('\\"', '"')


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if provider.needs_key])
async def test_a_twin_refuses_a_wrong_key(http: httpx.AsyncClient, name: str) -> None:
    answer = await post(http, name, good_body(name), key="another")

    assert answer.status_code == PROVIDERS[name].faults[Fault.BAD_KEY].status


async def test_a_twin_refuses_a_model_that_its_provider_does_not_have(http: httpx.AsyncClient) -> None:
    answer = await post(http, "anthropic", {**anthropic_body(), "model": "claude-sonnet-4.5"})

    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "model: claude-sonnet-4.5")


@pytest.mark.parametrize(
    ("fault", "indexes"), [(Fault.SAME_INDEX, [0, 0]), (Fault.NULL_INDEX, [None, None]), (Fault.NO_INDEX, [..., ...])]
)
async def test_a_small_server_may_not_count_its_streamed_calls(
    provider_server: ProviderServer, http: httpx.AsyncClient, fault: Fault, indexes: list[object]
) -> None:
    provider_server.on("work", Damaged(fault, Answer("", TWO_CALLS)))

    answer = await post(http, "vllm", {**good_body("vllm"), "stream": True})

    chunks = [
        json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")
    ]
    calls = [call for one in chunks if one["choices"] for call in one["choices"][0]["delta"].get("tool_calls", ())]
    assert [call.get("index", ...) for call in calls] == indexes


async def test_a_cut_stream_ends_without_a_finish_reason(
    provider_server: ProviderServer, http: httpx.AsyncClient
) -> None:
    provider_server.on("work", Fault.CUT)

    answer = await post(http, "openai", {**good_body("openai"), "stream": True})

    assert answer.status_code == 200
    assert '"stop"' not in answer.text


async def test_requested_data_comes_as_a_call_of_the_json_tool(http: httpx.AsyncClient) -> None:
    body = {**anthropic_body(), "tools": [{"name": JSON_TOOL, "input_schema": PARAMETERS}]}

    answer = await post(http, "anthropic", body, purpose="review")

    assert answer.json()["content"][-1]["input"]["decision"] == "approved"


def test_every_twin_serves_a_model_that_its_provider_has() -> None:
    for twin in TWINS.values():
        assert twin.model.partition("/")[2] in twin.provider.models
