"""Lessons from refusals: the next attempt and all later calls use a form that the model accepts."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from starlette.responses import Response

from app.kit.json_values import JsonObject
from app.services.llm.calls import Completion, ModelCaller, ModelRequest
from app.services.llm.context.window import ContextRules, ContextWindow
from app.services.llm.failures.errors import ModelCallFailed
from app.services.runs.work.model_calls import model_chain
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault

FORMAT: JsonObject = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"score": {"type": "number"}},
            "required": ["score"],
            "additionalProperties": False,
        },
    },
}
TOOLS: list[JsonObject] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("count", "odd")
]


class Tries:
    """A run's models over a gateway without retries, and what the run's events would say of its tries."""

    def __init__(self, models: ModelCaller) -> None:
        self.noted: list[tuple[str, int]] = []
        self._models = model_chain(
            models, window=ContextWindow(ContextRules()), note_retry=self.note, ensure_owned=lambda: None
        )

    def note(self, _: str, error: ModelCallFailed, attempt: int) -> None:
        """A call is made again."""
        self.noted.append((error.code, attempt))

    async def complete(self, asked: ModelRequest) -> Completion:
        """One call."""
        return await self._models.complete(asked)


def refusing(parameter: str, message: str, status: int = 400) -> Any:  # noqa: ANN401 - a script
    """A server that refuses requests with a parameter."""

    def script(call: Call) -> Reply:
        return fault(status, message) if call.body.get(parameter) is not None else '{"score": 1}'

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "message",
    [
        "This response_format type is unavailable now",
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "output_config.format: structured outputs are not supported by this model",
        "Bad request",
    ],
)
async def test_a_rejected_response_format_is_requested_in_words_from_then_on(
    open_gateway: OpenGateway, model_server: ModelServer, message: str, status: int, stream: bool
) -> None:
    model_server.on("work", refusing("response_format", message, status))
    tries = Tries(open_gateway(entry(model_server)))
    asked = request(response_format=FORMAT, on_delta=(lambda _: None) if stream else None)  # pyright: ignore[reportUnknownLambdaType]

    answers = [await tries.complete(asked) for _ in range(2)]

    assert [answer.text for answer in answers] == ['{"score": 1}'] * 2
    assert [bool(call.body.get("response_format")) for call in model_server.calls] == [True, False, False]
    assert '"score"' in model_server.calls[1].text
    assert [attempt for _, attempt in tries.noted] == [1]


async def test_calls_in_flight_together_are_each_made_again(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    together = asyncio.Barrier(3)

    async def script(call: Call) -> Reply:
        if call.body.get("response_format") is None:
            return '{"score": 1}'
        await together.wait()
        return fault(400, "response_format is not supported")

    model_server.on("work", script)
    tries = Tries(open_gateway(entry(model_server)))

    answers = await asyncio.gather(*(tries.complete(request(response_format=FORMAT)) for _ in range(3)))

    assert [answer.text for answer in answers] == ['{"score": 1}'] * 3
    assert len(model_server.calls) == 6


async def test_a_refusal_that_names_json_mode_as_known_gets_it(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    def script(call: Call) -> Reply:
        kind = (call.body.get("response_format") or {}).get("type")
        known = "response_format.type must be one of 'text', 'json_object', not 'json_schema'"
        return fault(400, known) if kind == "json_schema" else '{"score": 1}'

    model_server.on("work", script)
    tries = Tries(open_gateway(entry(model_server)))

    await tries.complete(request(response_format=FORMAT))

    assert [call.body["response_format"]["type"] for call in model_server.calls] == ["json_schema", "json_object"]


@pytest.mark.parametrize(
    ("parameter", "given"), [("temperature", {"temperature": 0.2}), ("max_tokens", {"max_tokens": 500})]
)
async def test_a_refused_parameter_is_left_out(
    open_gateway: OpenGateway, model_server: ModelServer, parameter: str, given: JsonObject
) -> None:
    model_server.on("work", refusing(parameter, f"Unsupported parameter: '{parameter}'."))
    tries = Tries(open_gateway(entry(model_server)))

    for _ in range(2):
        await tries.complete(request(**given))

    assert [parameter in call.body for call in model_server.calls] == [True, False, False]


async def test_a_limit_uses_the_name_that_the_refusal_requires(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    model_server.on("work", refusing("max_tokens", message))
    tries = Tries(open_gateway(entry(model_server)))

    await tries.complete(request(max_tokens=500))

    assert model_server.calls[1].body["max_completion_tokens"] == 500


async def test_several_refused_parts_are_left_out_one_after_the_other(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    def script(call: Call) -> Reply:
        for name in ("temperature", "max_tokens", "response_format"):
            if call.body.get(name) is not None:
                return fault(400, f"unknown field: {name}")
        return '{"score": 1}'

    model_server.on("work", script)
    tries = Tries(open_gateway(entry(model_server)))

    await tries.complete(request(temperature=0.2, max_tokens=5, response_format=FORMAT))

    assert len(model_server.calls) == 4
    assert [attempt for _, attempt in tries.noted] == [1, 2, 3]


@pytest.mark.parametrize(
    "message",
    [
        "Invalid schema for function 'odd': In context=(), schema must be plain.",
        "tools.1.custom.input_schema: JSON schema is invalid.",
    ],
)
async def test_a_tool_whose_schema_is_refused_is_left_out_by_name_and_the_others_stay(
    open_gateway: OpenGateway, model_server: ModelServer, message: str
) -> None:
    model_server.on("work", lambda call: fault(400, message) if "odd" in call.tools else completion("Good."))
    tries = Tries(open_gateway(entry(model_server)))

    answer = await tries.complete(request(tools=TOOLS))

    assert answer.text == "Good."
    assert [call.tools for call in model_server.calls] == [["count", "odd"], ["count", "odd"], ["count"]]


async def test_a_refused_order_of_turns_gets_a_turn_between(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    def script(call: Call) -> Reply:
        roles = [message["role"] for message in call.messages]
        is_refused = ("tool", "user") in pairwise(roles)
        return fault(400, "Unexpected role 'user' after role 'tool'") if is_refused else completion("Good.")

    model_server.on("work", script)
    tries = Tries(open_gateway(entry(model_server)))
    call = {"id": "call_1", "type": "function", "function": {"name": "count", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "user", "content": "Answer now."},
    ]

    answer = await tries.complete(request(messages=messages))

    assert answer.text == "Good."


async def test_a_limit_that_thoughts_used_up_is_left_out_from_then_on(
    open_gateway: OpenGateway, model_server: ModelServer
) -> None:
    def script(call: Call) -> Reply:
        return completion("", finish_reason="length") if call.body.get("max_tokens") else completion("Good.")

    model_server.on("work", script)
    tries = Tries(open_gateway(entry(model_server)))

    answers = [await tries.complete(request(max_tokens=500)) for _ in range(2)]

    assert [answer.text for answer in answers] == ["Good.", "Good."]
    assert [call.body.get("max_tokens") for call in model_server.calls] == [500, None, None]


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, your messages resulted in 9000 tokens (max_tokens 500).",
        "messages.0.content: something is wrong",
        "The model `scripted` does not exist",
    ],
)
async def test_a_refusal_for_another_reason_is_final_and_teaches_nothing(
    open_gateway: OpenGateway, model_server: ModelServer, message: str
) -> None:
    replies: list[Response] = [fault(400, message)]
    model_server.on("work", lambda _: replies.pop() if replies else '{"score": 1}')
    tries = Tries(open_gateway(entry(model_server)))

    with pytest.raises(ModelCallFailed):
        await tries.complete(request(response_format=FORMAT))
    await tries.complete(request(response_format=FORMAT))

    assert all(call.body.get("response_format") for call in model_server.calls)
    assert tries.noted == []


async def test_a_guess_that_did_not_help_is_given_up(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    replies: list[Response] = [fault(400, "Bad request"), fault(400, "Bad request")]
    model_server.on("work", lambda _: replies.pop() if replies else '{"score": 1}')
    tries = Tries(open_gateway(entry(model_server)))

    with pytest.raises(ModelCallFailed):
        await tries.complete(request(response_format=FORMAT))
    await tries.complete(request(response_format=FORMAT))

    assert [bool(call.body.get("response_format")) for call in model_server.calls] == [True, False, True]


async def test_each_entry_under_a_name_learns_separately(open_gateway: OpenGateway, model_server: ModelServer) -> None:
    def script(call: Call) -> Reply:
        is_refused = call.model == "plain" and call.body.get("response_format")
        return fault(400, "response_format is not supported") if is_refused else '{"score": 1}'

    model_server.on("work", script)
    gateway = open_gateway(
        entry(model_server, "house/plain", model="openai/plain"), entry(model_server, "house/able", model="openai/able")
    )
    tries = Tries(gateway)

    for name in ("house/plain", "house/able", "house/plain", "house/able"):
        await tries.complete(request(name, response_format=FORMAT))

    formats = [(call.model, bool(call.body.get("response_format"))) for call in model_server.calls]
    assert formats == [("plain", True), ("plain", False), ("able", True), ("plain", False), ("able", True)]
