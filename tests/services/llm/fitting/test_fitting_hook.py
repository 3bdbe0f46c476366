"""Requests are fitted once the Router has chosen a deployment, for each one that is tried."""

import pytest

from app.kit.json_values import JsonObject
from app.services.llm.fitting import deployments
from app.services.llm.model_info.capabilities import Capabilities
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer, completion, fault

BARE_TOOL: JsonObject = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def unwatched(_: str) -> None:
    """Text that comes as it is made, for a reader who looks away."""


async def test_a_tool_without_parameters_names_its_lack_of_properties(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    gateway = open_gateway(entry(model_server))
    asked = request(tools=[BARE_TOOL])

    await gateway.complete(asked)

    sent = model_server.calls[0].body["tools"][0]["function"]["parameters"]
    assert sent == {"type": "object", "properties": {}}
    assert asked.tools[0]["function"]["parameters"] == {"type": "object"}


@pytest.mark.parametrize("stream", [False, True])
async def test_each_deployment_that_is_tried_gets_a_request_of_its_own(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def mark(arguments: JsonObject, model: Capabilities) -> JsonObject:
        turn = {"role": "user", "content": model.entry.name}
        return {**arguments, "messages": [*arguments["messages"], turn]}

    monkeypatch.setattr(deployments, "fit_request", mark)
    model_server.on("work", lambda call: fault(500) if len(model_server.calls) == 1 else completion("Good."))
    gateway = open_gateway(
        entry(model_server, "first"), entry(model_server, "second"), fallbacks=[{"first": ["second"]}]
    )

    answer = await gateway.complete(request("first", on_delta=unwatched if stream else None))

    assert answer.text == "Good."
    said = [[message["content"] for message in call.messages] for call in model_server.calls]
    assert said == [["Say something.", "first"], ["Say something.", "second"]]
