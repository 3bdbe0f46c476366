"""Continuing the conversation of a finished execution."""

import asyncio

import httpx

from app.services.runs.work.conversations import NO_RESULT, continued, with_results
from app.services.runs.work.model_calls import with_fence
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion
from tests.fixtures.runs import ADA, finished, first_then
from tests.fixtures.services import PROJECT, Service

BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


async def test_a_run_continues_the_conversation_of_another(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1})), "First.", "Second."))
    first = await service.run_agent(ADA, prompt="One?", judge=False)

    second = await service.run_agent(ADA, prompt="Two?", judge=False, previousExecutionId=first["executionId"])

    asked = model_server.calls[-1].messages
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert asked[1:5] == [
        {name: value for name, value in message.items() if value is not None}
        | {"content": with_fence(message)["content"]}
        for message in first["runState"]["messages"][1:]
    ]
    assert (second["previousExecutionId"], len(second["runState"]["messages"])) == (first["executionId"], 7)


async def test_a_run_stays_in_the_conversation_that_it_continues_unless_it_names_another(service: Service) -> None:
    first = await service.run_agent(ADA, judge=False, conversationId="thread-1")

    second = await service.run_agent(ADA, judge=False, previousExecutionId=first["executionId"])
    third = await service.run_agent(ADA, judge=False, previousExecutionId=second["executionId"])
    other = await service.run_agent(
        ADA, judge=False, previousExecutionId=third["executionId"], conversationId="thread-2"
    )

    assert [one["conversationId"] for one in (second, third, other)] == ["thread-1", "thread-1", "thread-2"]


async def test_only_a_finished_execution_of_the_same_project_can_be_gone_on_from(
    service: Service, model_server: ModelServer
) -> None:
    done = await service.run_agent(ADA, judge=False)

    async def start(**body: str) -> httpx.Response:
        return await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY | body)

    elsewhere = await start(previousExecutionId=done["executionId"], project="66f0a1b2c3d4e5f601234568")
    nothing = await start(previousExecutionId="nothing")
    hanging = asyncio.Event()

    async def work(_: Call) -> Reply:
        await hanging.wait()
        return "Done."

    model_server.on("work", work)
    running = (await start()).json()["executionId"]
    unfinished = await start(previousExecutionId=running)
    hanging.set()
    await finished(service, running)

    assert [(answer.status_code, answer.json()["code"]) for answer in (elsewhere, nothing, unfinished)] == [
        (422, "validation-error"),
        (422, "validation-error"),
        (409, "execution-unfinished"),
    ]
    assert elsewhere.json()["errors"][0]["path"] == "previousExecutionId"


def test_a_history_that_was_cut_off_has_a_result_for_every_call() -> None:
    call: Json = {"id": "a", "type": "function", "function": {"name": "echo", "arguments": "{}"}}
    messages: list[object] = [
        {"role": "system", "content": "Be."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "b"}], "plan": {}},
        {"role": "tool", "tool_call_id": "b", "name": "echo", "content": "{}"},
        {"role": "tool", "tool_call_id": "stranger", "content": "{}"},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]

    history = list(with_results(continued(messages)))

    assert [message["role"] for message in history] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "assistant",
        "tool",
    ]
    assert [message["content"] for message in history if message["role"] == "tool"] == ["{}", NO_RESULT, NO_RESULT]
    assert set(history[1]) == {"role", "content", "tool_calls"}
