"""Turns on the wires of real providers: every twin takes its own turns back, and those of all others."""

import pytest
from starlette.responses import JSONResponse

from app.kit.json_values import JsonObject
from app.services.llm.calls import Completion
from app.services.llm.failures.errors import ModelAnswerInvalid, ModelRequestRefused
from app.services.llm.gateway import ModelGateway
from app.services.runs.work.state import ExecutionState
from tests.fixtures.gateways import OpenGateway, request
from tests.fixtures.providers.brain import Answer, Damaged, ToolUse, first_then, uses_tools
from tests.fixtures.providers.faults import Fault
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer

PARAMETERS: JsonObject = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOL: JsonObject = {"type": "function", "function": {"name": "echo", "description": "Echo.", "parameters": PARAMETERS}}
QUESTION: JsonObject = {"role": "user", "content": "Say something."}
OTHERS = ("anthropic-thinking", "gemini-3", "gemini-compatible", "deepseek", "openai")
"""Twins whose turns differ in what comes with them."""


def unwatched(_: str) -> None:
    """Text that comes as it is made, for a reader who looks away."""


def open_twins(open_gateway: OpenGateway, server: ProviderServer, *names: str) -> ModelGateway:
    """A gateway with these twins."""
    return open_gateway(*(TWINS[name].entry(server.url) for name in names))


async def ask(gateway: ModelGateway, name: str, messages: list[JsonObject], *, stream: bool) -> Completion:
    """One call of a twin."""
    asked = request(name, messages=messages, tools=[TOOL], on_delta=unwatched if stream else None)
    return await gateway.complete(asked)


def take(state: ExecutionState, answer: Completion, step: int) -> None:
    """Fold a turn with tool calls into a state, with the results of the calls."""
    beginning: JsonObject = {"reasoning": answer.reasoning, "providerData": answer.provider_data}
    if answer.text:
        state.apply({"type": "agent-thinking", "step": step, "message": answer.text, **beginning})
    for place, call in enumerate(answer.tool_calls):
        data = beginning if not answer.text and not place else {}
        state.apply(
            {
                "type": "tool-call",
                "step": step,
                "toolCallId": f"{call.id}_{step}_{place}",
                "toolName": call.name,
                "arguments": call.arguments,
                "callData": call.attached,
                **data,
            }
        )
    for identity, call in list(state.open_calls.items()):
        state.apply({"type": "tool-result", "toolCallId": identity, "toolName": call.name, "output": {"n": 1}})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", TWINS)
async def test_a_model_accepts_its_own_earlier_turns(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str, stream: bool
) -> None:
    gateway = open_twins(open_gateway, provider_server, name)
    both = Answer("Let me.", (ToolUse("echo", {"text": "a"}), ToolUse("echo", {"text": "b"})))
    replies = iter([both, Answer("", (ToolUse("echo", {"text": "c"}),)), "Done."])
    provider_server.on("work", lambda _: next(replies))
    state = ExecutionState(max_revisions=0)

    for step in (1, 2):
        take(state, await ask(gateway, name, [QUESTION, *state.turns], stream=stream), step)
    done = await ask(gateway, name, [QUESTION, *state.turns], stream=stream)

    assert provider_server.violations == []
    assert done.text == "Done."
    assert [len(turn["tool_calls"]) for turn in state.turns if turn["role"] == "assistant"] == [2, 1]


@pytest.mark.slow
@pytest.mark.parametrize("before", OTHERS)
@pytest.mark.parametrize("name", TWINS)
async def test_a_model_accepts_another_models_turns_in_the_middle_of_a_tool_loop(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str, before: str
) -> None:
    gateway = open_twins(open_gateway, provider_server, *{name, before})
    provider_server.on("work", uses_tools(ToolUse("echo", {"text": "a"}), ToolUse("echo", {"text": "b"})))
    state = ExecutionState(max_revisions=0)
    take(state, await ask(gateway, before, [QUESTION], stream=True), 1)

    open_loop = await ask(gateway, name, [QUESTION, *state.turns], stream=False)
    continued = await ask(gateway, name, [QUESTION, *state.turns, QUESTION], stream=False)

    assert provider_server.violations == []
    assert all(answer.text or answer.tool_calls for answer in (open_loop, continued))


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("arguments", ['{"text": "a b', '["a"]', "Count the words."])
async def test_every_model_accepts_a_turn_whose_arguments_were_not_an_object(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str, arguments: str
) -> None:
    gateway = open_twins(open_gateway, provider_server, name)
    provider_server.on("work", uses_tools(ToolUse("echo", arguments)))
    state = ExecutionState(max_revisions=0)
    stream = name.startswith(("anthropic", "openai"))

    take(state, await ask(gateway, name, [QUESTION], stream=stream), 1)
    done = await ask(gateway, name, [QUESTION, *state.turns], stream=stream)

    assert provider_server.violations == []
    assert done.text == "Done."


@pytest.mark.parametrize("name", TWINS)
async def test_every_model_accepts_a_turn_with_identical_calls(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str
) -> None:
    gateway = open_twins(open_gateway, provider_server, name)
    provider_server.on("work", uses_tools(*[ToolUse("echo", {"text": "a"})] * 3))
    state = ExecutionState(max_revisions=0)

    take(state, await ask(gateway, name, [QUESTION], stream=False), 1)
    done = await ask(gateway, name, [QUESTION, *state.turns], stream=False)

    assert provider_server.violations == []
    assert done.text == "Done."
    assert len(provider_server.received[-1].ask.results) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", TWINS)
async def test_every_model_accepts_a_turn_with_thoughts_in_its_text(
    open_gateway: OpenGateway, provider_server: ProviderServer, name: str, stream: bool
) -> None:
    gateway = open_twins(open_gateway, provider_server, name)
    provider_server.on("work", uses_tools(ToolUse("echo", {"text": "a"}), text="<think>Hm.</think>Let me."))
    state = ExecutionState(max_revisions=0)

    take(state, await ask(gateway, name, [QUESTION], stream=stream), 1)
    done = await ask(gateway, name, [QUESTION, *state.turns], stream=stream)

    assert provider_server.violations == []
    assert done.text == "Done."


@pytest.mark.parametrize("seed", [2, 4, 51])
async def test_a_stream_with_thinking_out_of_order_is_not_an_answer(
    open_gateway: OpenGateway, provider_server: ProviderServer, seed: int
) -> None:
    gateway = open_twins(open_gateway, provider_server, "anthropic-thinking")
    calls = (ToolUse("echo", '["a"]'), ToolUse("echo", "null"), ToolUse("files/read"))
    provider_server.on("work", Damaged(Fault.REORDERED, Answer("", calls), seed))

    with pytest.raises(ModelAnswerInvalid):
        await ask(gateway, "anthropic-thinking", [QUESTION], stream=True)


async def test_a_refused_signature_does_not_teach_that_the_model_cannot_think(
    open_gateway: OpenGateway, provider_server: ProviderServer
) -> None:
    gateway = open_twins(open_gateway, provider_server, "anthropic-thinking")
    error = {
        "type": "invalid_request_error",
        "message": "messages.1.content.0: Invalid `signature` in `thinking` block",
    }
    refusal = JSONResponse({"type": "error", "error": error}, status_code=400)
    provider_server.on("work", first_then(refusal, "Done."))

    with pytest.raises(ModelRequestRefused) as refused:
        await ask(gateway, "anthropic-thinking", [QUESTION], stream=False)
    await ask(gateway, "anthropic-thinking", [QUESTION], stream=False)

    assert not refused.value.is_adapted
    assert all("thinking" in one.ask.body for one in provider_server.received)
