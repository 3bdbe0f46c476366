"""Metadata of a call reaches the demo model, and no other provider."""

import pytest

from app.demo import provider
from app.demo.model import DemoAnswer, answer
from app.kit.json_values import JsonObject
from app.services.llm.calls import AgentProfile, CallMetadata
from tests.fixtures.gateways import MODEL, OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer

METADATA = CallMetadata(AgentProfile("falconer-001", "Falconer", "Wildlife Department"), is_last_step=True)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_demo_model_receives_the_metadata(
    open_gateway: OpenGateway, monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    received: list[CallMetadata | None] = []

    def noting(*, metadata: CallMetadata | None, **call: object) -> DemoAnswer:
        received.append(metadata)
        return answer(metadata=metadata, **call)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(provider, "answer", noting)
    params: JsonObject = {"model_name": MODEL, "litellm_params": {"model": "demo/demo"}}

    completion = await open_gateway(params).complete(request(metadata=METADATA, on_delta=str if streamed else None))

    assert received == [METADATA]
    assert "last step" in completion.text


async def test_no_other_provider_receives_it(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    gateway = open_gateway(entry(model_server))

    await gateway.complete(request(metadata=METADATA))
    await gateway.complete(request())

    with_metadata, without = model_server.calls
    assert with_metadata.body == without.body
