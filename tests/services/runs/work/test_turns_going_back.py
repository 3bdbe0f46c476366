# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""Turns of runs go back to their model as it gave them: in the next call, after a take-over, in a continuation."""

import json
from typing import Any

import pytest

from app.services.llm.messages.turns import INVALID
from app.services.runs.work import conversations
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, fault
from tests.fixtures.runs import (
    ADA,
    PRICED_MODEL,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    first_then,
    of_type,
    stored_once,
)
from tests.fixtures.services import Service

SIGNATURE: Json = {"google": {"thought_signature": "c2lnbmVk"}}
BAD_ARGUMENTS = ['{"text": "a b', '["a"]', "Count the words.", '{"a": 1}{"b": 2}']


def thoughtful(text: str | None = "Let me count.", arguments: Any = None) -> Json:  # noqa: ANN401 - any JSON value
    """A turn with reasoning and a tool call to which the provider attached something."""
    reply = completion(text, ("echo", {"n": 1} if arguments is None else arguments))
    message = reply["choices"][0]["message"]
    message["reasoning_content"] = "First I count, then I answer."
    message["tool_calls"][0]["extra_content"] = SIGNATURE
    return reply


def thought_of(call: Call) -> tuple[object, object]:
    """The reasoning and the attachment of the first turn that a call sends back."""
    turn = next(message for message in call.messages if message["role"] == "assistant")
    return turn.get("reasoning_content"), turn["tool_calls"][0].get("extra_content")


WHOLE = ("First I count, then I answer.", SIGNATURE)
NOTHING = (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["Let me count.", None])
async def test_a_turn_goes_back_with_its_reasoning_and_is_in_the_record(
    service: Service, model_server: ModelServer, text: str | None, stream: bool
) -> None:
    model_server.on("work", first_then(thoughtful(text), "Done."))

    done = await service.run_agent(ADA, judge=False, deltas=stream)

    assert done["status"] == "completed"
    assert thought_of(model_server.calls[1]) == WHOLE
    events = await all_events(service, done["executionId"])
    begin, call = (
        (of_type(events, "agent-thinking") or of_type(events, "tool-call"))[0],
        of_type(events, "tool-call")[0],
    )
    assert (begin["reasoning"], begin["providerData"]) == (WHOLE[0], {"origin": "openai/scripted-claude-sonnet-4.5"})
    assert call["callData"] == {"extra_content": SIGNATURE}
    (turn,) = (one for one in done["runState"]["messages"] if one.get("tool_calls"))
    assert (turn["reasoning_content"], turn["tool_calls"][0]["extra_content"]) == WHOLE


async def test_a_call_that_goes_back_under_another_name_goes_without_its_signature(
    service: Service, model_server: ModelServer
) -> None:
    reply = thoughtful()
    reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"] = "dots.and:colons"
    model_server.on("work", first_then(reply, "Done."))

    done = await service.run_agent(ADA, judge=False)

    assert done["status"] == "completed"
    assert thought_of(model_server.calls[1]) == (WHOLE[0], None)


@pytest.mark.usefixtures("lone_processes")
async def test_a_turn_goes_back_unchanged_after_a_takeover(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        if not call.tool_results:
            return thoughtful()
        return "Done." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 4)

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    _, lost, repeated = model_server.calls_for("work")
    assert document["status"] == "completed"
    assert lost.messages == repeated.messages
    assert thought_of(repeated) == WHOLE


async def test_reasoning_too_long_for_a_row_is_sent_back_in_full_from_a_checkpoint(
    service: Service, model_server: ModelServer
) -> None:
    reply = thoughtful()
    reasoning = "I think. " * 20_000
    reply["choices"][0]["message"]["reasoning_content"] = reasoning
    model_server.on("work", first_then(reply, fault(500), "Done."))
    failed = await service.run_agent(ADA, judge=False)

    answer = await service.http.post(f"/api/v1/executions/{failed['executionId']}/retry", headers={"Prefer": "wait=20"})

    assert (failed["status"], answer.json()["status"]) == ("failed", "completed")
    assert thought_of(model_server.calls[-1]) == (reasoning, SIGNATURE)
    begin = of_type(await all_events(service, answer.json()["executionId"]), "agent-thinking")[0]
    assert (begin["truncated"], begin["copied"]) == (True, True)


@pytest.mark.slow
async def test_a_continuation_returns_provider_fields_only_to_the_same_model(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", first_then(thoughtful(), "Done."))
    first = await service.run_agent(ADA, judge=False)
    body = {"judge": False, "previousExecutionId": first["executionId"]}

    await service.run_agent(ADA, **body)
    same = model_server.calls[-1]
    await service.run_agent(ADA, model=PRICED_MODEL, **body)
    other = model_server.calls[-1]

    assert (thought_of(same), thought_of(other)) == (WHOLE, NOTHING)
    assert not any("origin" in message for call in (same, other) for message in call.messages)


async def test_a_history_that_is_too_large_with_its_reasoning_is_kept_without(
    service: Service, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MAX_RUN_STATE_BYTES", 4_000)
    reply = thoughtful()
    reply["choices"][0]["message"]["reasoning_content"] = "I think. " * 1_000
    model_server.on("work", first_then(reply, "Done."))

    done = await service.run_agent(ADA, judge=False)

    assert "omitted" not in done["runState"]
    (turn,) = (one for one in done["runState"]["messages"] if one.get("tool_calls"))
    assert turn.keys() == {"role", "content", "tool_calls"}
    assert turn["tool_calls"][0].keys() == {"id", "type", "function"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("arguments", BAD_ARGUMENTS)
async def test_arguments_that_are_no_object_go_back_as_one_and_stay_in_the_record_as_written(
    service: Service, model_server: ModelServer, arguments: str, stream: bool
) -> None:
    model_server.on("work", first_then(thoughtful(arguments=arguments), "Done."))

    done = await service.run_agent(ADA, judge=False, deltas=stream)
    await service.run_agent(ADA, judge=False, previousExecutionId=done["executionId"])

    for call in model_server.calls[1:]:
        (turn,) = (message for message in call.messages if message.get("tool_calls"))
        assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {INVALID: arguments}
    assert model_server.calls[1].tool_results[0]["error"]["code"] == "tool-arguments-invalid"
    recorded = of_type(await all_events(service, done["executionId"]), "tool-call")[0]
    assert (recorded["arguments"], recorded["input"]) == (arguments, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_that_were_cut_at_the_output_limit_are_said_to_be(
    service: Service, model_server: ModelServer, stream: bool
) -> None:
    cut = completion(None, ("echo", '{"text": "a b'), finish_reason="length")
    model_server.on("work", first_then(cut, "Done."))

    done = await service.run_agent(ADA, judge=False, deltas=stream)

    error = model_server.calls[1].tool_results[0]["error"]
    assert (done["status"], error["code"]) == ("completed", "tool-arguments-invalid")
    assert "cut off" in error["message"]
    assert of_type(await all_events(service, done["executionId"]), "tool-call")[0]["argumentsCut"] is True
