"""The key of a cached answer: equal for equal requests, another for each thing that shapes the answer."""

from dataclasses import replace
from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.cache.key import DeploymentGroups, key_of
from app.services.llm.calls import AgentProfile, CallMetadata, CallScope, ModelRequest, RunPurpose
from app.services.llm.context.mark import ContextMark
from app.services.llm.gateway import ModelGateway
from tests.fixtures.gateways import MODEL, OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer

TURNS: list[JsonObject] = [
    {"role": "system", "content": "You write."},
    {"role": "user", "content": "<<<REQUEST 1a2b3c4d>>>\nWrite.\n<<<END REQUEST 1a2b3c4d>>>"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "echo", "arguments": "{}"}}],
        "provider_data": {"origin": "house", "signature": "s1"},
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '{"found": 1}'},
]
TOOL: JsonObject = {
    "type": "function",
    "function": {"name": "echo", "description": "Echoes.", "parameters": {"type": "object", "properties": {}}},
}
FORMAT: JsonObject = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}}}
METADATA = CallMetadata(AgentProfile("falconer-001", "Falconer", "Wildlife"))
BASE = request(
    messages=TURNS,
    tools=[TOOL],
    response_format=FORMAT,
    temperature=0.2,
    max_tokens=100,
    scope=CallScope("exec_1", "falconer-001", "wildlife", "project-1", "key-1"),
)


def with_turn(place: int, **fields: Any) -> list[JsonObject]:  # noqa: ANN401 - any field of a message
    """The messages with one of them changed."""
    return [{**turn, **fields} if number == place else turn for number, turn in enumerate(TURNS)]


def with_function(**fields: Any) -> list[JsonObject]:  # noqa: ANN401 - any field of a function
    """The tools with a changed function."""
    return [{**TOOL, "function": {**TOOL["function"], **fields}}]


SHAPING: dict[str, dict[str, Any]] = {
    "model": {"model": "house/other"},
    "instructions": {"messages": with_turn(0, content="You draw.")},
    "task": {"messages": with_turn(1, content="Draw.")},
    "role": {"messages": with_turn(0, role="developer")},
    "provider data": {"messages": with_turn(2, provider_data={"origin": "house", "signature": "s2"})},
    "tool result": {"messages": with_turn(3, content='{"found": 2}')},
    "tool call id": {"messages": with_turn(3, tool_call_id="call_2")},
    "fewer messages": {"messages": TURNS[:-1]},
    "order of messages": {"messages": [TURNS[1], TURNS[0], *TURNS[2:]]},
    "no tools": {"tools": []},
    "tool name": {"tools": with_function(name="shout")},
    "tool description": {"tools": with_function(description="Shouts.")},
    "tool schema": {"tools": with_function(parameters={"type": "object", "properties": {"a": {"type": "string"}}})},
    "no response format": {"response_format": None},
    "response schema": {"response_format": {**FORMAT, "json_schema": {"name": "a", "schema": {"type": "array"}}}},
    "temperature": {"temperature": 0.3},
    "no temperature": {"temperature": None},
    "output limit": {"max_tokens": 101},
    "no output limit": {"max_tokens": None},
    "purpose": {"purpose": RunPurpose.REPORT},
    "project": {"scope": replace(BASE.scope, project="project-2")},
    "no project": {"scope": replace(BASE.scope, project=None)},
}
VOLATILE: dict[str, dict[str, Any]] = {
    "execution": {"execution_id": "exec_2"},
    "root": {"scope": replace(BASE.scope, root_execution_id="exec_2")},
    "agent": {"scope": replace(BASE.scope, agent="other-001", department="other")},
    "API key": {"scope": replace(BASE.scope, api_key="key-2")},
    "attempt": {"attempt": 2},
    "metadata": {"metadata": METADATA},
    "streaming": {"on_delta": str},
    "task's position": {"task": 1},
    "context mark": {"mark": ContextMark(messages=3)},
    "order of names": {"messages": [dict(reversed(turn.items())) for turn in TURNS]},
}


@pytest.fixture
def groups(open_gateway: OpenGateway, model_server: ModelServer) -> DeploymentGroups:
    """The deployments of two names."""
    return groups_of(open_gateway(entry(model_server), entry(model_server, "house/other")))


def groups_of(gateway: ModelGateway) -> DeploymentGroups:
    """The deployments of a gateway."""
    return DeploymentGroups(gateway.usable_entries, gateway.table)


def changed(fields: dict[str, Any]) -> ModelRequest:
    """The request with some fields changed."""
    return replace(BASE, **fields)


@pytest.mark.parametrize("name", SHAPING)
def test_each_field_that_shapes_the_answer_changes_the_key(groups: DeploymentGroups, name: str) -> None:
    assert key_of(changed(SHAPING[name]), groups) != key_of(BASE, groups)


@pytest.mark.parametrize("name", VOLATILE)
def test_each_field_of_one_run_alone_leaves_the_key(groups: DeploymentGroups, name: str) -> None:
    assert key_of(changed(VOLATILE[name]), groups) == key_of(BASE, groups)


def test_all_keys_of_different_requests_differ(groups: DeploymentGroups) -> None:
    keys = {key_of(changed(fields), groups) for fields in SHAPING.values()}

    assert len(keys) == len(SHAPING)
    assert all(len(key) == 64 for key in keys)


@pytest.mark.parametrize(
    ("params", "is_same"),
    [
        ({"model": "openai/scripted-2"}, False),
        ({"api_base": "http://127.0.0.1:9/v1"}, False),
        ({"top_p": 0.5}, False),
        ({"max_tokens": 50}, False),
        ({"extra_body": {"seed": 7}}, False),
        ({"api_key": "another-key-of-the-tests"}, True),
        ({"extra_headers": {"Authorization": "Bearer another"}}, True),
        ({"timeout": 3}, True),
        ({"rpm": 10}, True),
        ({"input_cost_per_token": 1e-6}, True),
    ],
)
def test_the_deployment_behind_the_name_is_part_of_the_key(
    open_gateway: OpenGateway, model_server: ModelServer, params: JsonObject, *, is_same: bool
) -> None:
    before = key_of(BASE, groups_of(open_gateway(entry(model_server))))

    after = key_of(BASE, groups_of(open_gateway(entry(model_server, **params))))

    assert (before == after) is is_same


def test_the_fallbacks_of_a_name_are_part_of_the_key(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    entries = (entry(model_server), entry(model_server, "house/other", model="openai/second"))
    before = key_of(BASE, groups_of(open_gateway(*entries)))

    after = key_of(BASE, groups_of(open_gateway(*entries, fallbacks=[{MODEL: ["house/other"]}])))

    assert before != after


def test_a_second_deployment_of_the_name_changes_the_key(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    before = key_of(BASE, groups_of(open_gateway(entry(model_server))))

    both = (entry(model_server), entry(model_server, model="openai/second"))
    assert key_of(BASE, groups_of(open_gateway(*both))) != before


def test_the_demo_model_also_answers_by_the_metadata(open_gateway: OpenGateway) -> None:
    groups = groups_of(open_gateway({"model_name": MODEL, "litellm_params": {"model": "demo/demo"}}))

    assert key_of(replace(BASE, metadata=METADATA), groups) != key_of(BASE, groups)


def test_text_that_utf8_cannot_encode_has_a_key(groups: DeploymentGroups) -> None:
    odd = replace(BASE, messages=[{"role": "user", "content": "\ud800", "number": 2**70}])

    assert key_of(odd, groups) == key_of(odd, groups) != key_of(BASE, groups)
