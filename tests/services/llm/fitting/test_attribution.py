"""Calls carry labels by which a proxy or a provider attributes spend, where these are harmless."""

import json
from typing import Any

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.calls import CallScope
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer

SCOPE = CallScope("exec_root", "ada-001", "writers", "project-1", "key-1", ("pilot", "night"))
METADATA = {
    "executionId": "exec_1",
    "rootExecutionId": "exec_root",
    "agent": "ada-001",
    "department": "writers",
    "project": "project-1",
    "purpose": "work",
    "tags": ["pilot", "night"],
}


async def sent(open_gateway: OpenGateway, server: ModelServer, scope: CallScope, **params: Any) -> JsonObject:  # noqa: ANN401 - LiteLLM's own
    """The body that the server received, of an entry with these parameters."""
    await open_gateway(entry(server, **params)).complete(request(scope=scope))
    return server.calls[-1].body


async def test_a_proxy_receives_everything_that_a_call_is_attributed_to(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    body = await sent(open_gateway, model_server, SCOPE, model="litellm_proxy/fast")

    assert (body["model"], body["user"], body["metadata"]) == ("fast", "key:key-1", METADATA)


async def test_without_a_key_the_user_is_the_project(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    body = await sent(open_gateway, model_server, CallScope("", project="project-1"), model="litellm_proxy/fast")

    assert body["user"] == "project:project-1"
    assert body["metadata"] == {
        "executionId": "exec_1",
        "rootExecutionId": "exec_1",
        "project": "project-1",
        "purpose": "work",
    }


@pytest.mark.parametrize(
    ("params", "labels"),
    [
        ({"model": "openai/gpt-4o"}, {"user": "key:key-1"}),
        ({"model": "openai/scripted"}, {}),
        ({"model": "hosted_vllm/scripted"}, {}),
        ({"model": "litellm_proxy/fast", "extra_body": {"user": "us", "x": 1}}, {"user": "us", "metadata": METADATA}),
    ],
)
async def test_others_get_no_more_than_a_user_and_an_entry_s_own_values_stay(
    open_gateway: OpenGateway, model_server: ModelServer, params: JsonObject, labels: JsonObject
) -> None:
    body = await sent(open_gateway, model_server, SCOPE, **params)

    assert {name: body[name] for name in ("user", "metadata") if name in body} == labels


async def test_strict_providers_have_nothing_to_refuse(
    open_gateway: OpenGateway, provider_server: ProviderServer
) -> None:
    gateway = open_gateway(*(twin.entry(provider_server.url) for twin in TWINS.values()))

    for name in TWINS:
        await gateway.complete(request(name, scope=SCOPE))

    assert provider_server.violations == []
    labeled = {one.ask.provider for one in provider_server.received if "key-1" in json.dumps(one.ask.body)}
    assert labeled == {"openai"}
