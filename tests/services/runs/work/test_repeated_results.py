"""A long result that tools return again is sent once; later calls refer to it."""

from app.services.prompts.fences import fenced, same_as
from app.services.runs.work.model_calls import LEAST_REPEATED_CHARACTERS, with_fence, with_fences
from tests.fixtures.model_server import ModelServer, completion, plan_of, review
from tests.fixtures.runs import ADA, DEPARTMENT, all_events, first_then, of_type, stored_tree
from tests.fixtures.services import Service

LONG = {"text": "A line of the script. " * 40}


def result(content: str, name: str = "echo") -> dict[str, str]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": "call_1", "name": name, "content": content}


def test_only_a_long_result_of_the_same_tool_is_named() -> None:
    long = "x" * LEAST_REPEATED_CHARACTERS
    messages = [result(long), result("short"), result(long), result("short"), result(long, "other"), result(long)]

    sent = with_fences(messages)

    named = {"content": same_as(fenced("RESULT OF echo", long))}
    whole = [with_fence(message) for message in messages]
    assert sent == [*whole[:2], whole[2] | named, *whole[3:5], whole[5] | named]
    assert named["content"].startswith("The result is the same as above: RESULT OF echo ")
    assert sent[0]["content"].partition(">>>")[0].removeprefix("<<<") in named["content"]


def test_the_beginning_of_a_conversation_stays_the_same() -> None:
    long = "x" * LEAST_REPEATED_CHARACTERS
    turns = [result(long), result(long), result("short"), result(long)]

    assert with_fences(turns)[:2] == with_fences(turns[:2])


async def test_a_revision_that_repeats_its_calls_refers_to_their_first_results(
    service: Service, model_server: ModelServer
) -> None:
    again = completion(None, ("echo", LONG))
    model_server.on("plan", plan_of((ADA, "Write it.", [])))
    model_server.on("work", first_then(again, "First draft.", again, "Second draft."))
    model_server.on("review", first_then(review("revision-needed", "More."), review("approved", "Good.")))

    done = await service.run_department(DEPARTMENT)

    last = model_server.calls_for("work")[-1].messages
    first, second = [str(message["content"]) for message in last if message["role"] == "tool"]
    assert first.startswith("<<<RESULT OF echo ")
    assert second == same_as(first)
    specialist = (await stored_tree(service, done["executionId"]))[ADA]["executionId"]
    shown = (await service.http.get(f"/api/v1/executions/{specialist}/prompts")).json()["calls"]
    (work,) = [call for call in shown if call["purpose"] == "work"]
    assert [message["content"] for message in work["messages"] if message["role"] == "tool"] == [first, second]
    results = of_type(await all_events(service, done["executionId"]), "tool-result")
    assert [event["output"] for event in results] == [LONG, LONG]
