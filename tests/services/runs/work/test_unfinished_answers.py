"""Answers that stopped at the model's output limit: shown as such, and every later reader of them learns it."""

from collections.abc import Callable

import pytest

from app.services.prompts.fences import CUT_NOTE
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, judgment, plan_of
from tests.fixtures.runs import ADA, BOB, DEPARTMENT, HEAD, SPECIALISTS, all_events, first_then, of_type, stored_tree
from tests.fixtures.services import Service

CUT_TEXT = completion("It was a dark and", finish_reason="length")
JUST_ADA = plan_of((ADA, "Write it.", []))


def by_agent(replies: dict[str, Reply]) -> Callable[[Call], Reply]:
    """A script that answers each agent in its own way."""
    return lambda call: next((reply for agent, reply in replies.items() if call.is_from(agent)), "The work is done.")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_was_cut_is_shown_and_judged_as_such(
    service: Service, model_server: ModelServer, stream: bool
) -> None:
    model_server.on("work", CUT_TEXT)

    done = await service.run_agent(ADA, deltas=stream)
    model_server.on("work", "It was a dark and stormy night.")
    good = await service.run_agent(ADA, deltas=stream)

    assert [(one["status"], one["truncated"]) for one in (done, good)] == [("completed", True), ("completed", False)]
    cut, whole = model_server.calls_for("judge")
    assert (CUT_NOTE in cut.text, CUT_NOTE in whole.text) == (True, False)
    response = of_type(await all_events(service, done["executionId"]), "agent-response")[0]
    assert (response["finishReason"], response["outputTruncated"]) == ("length", True)
    listed = (await service.http.get("/api/v1/executions", params={"limit": 2})).json()["items"]
    assert sorted(item["truncated"] for item in listed) == [False, True]


async def test_other_specialists_reviewer_and_report_are_informed_that_a_specialists_work_is_truncated(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", plan_of((ADA, "Begin.", []), (BOB, "Continue.", [ADA])))
    model_server.on("work", by_agent({ADA: CUT_TEXT}))

    done = await service.run_department(DEPARTMENT)

    lines = done["output"]["report"]["specialists"]
    assert [(line["agentId"], line.get("truncated", False)) for line in lines] == [(ADA, True), (BOB, False)]
    (continued,) = (call for call in model_server.calls_for("work") if call.is_from(BOB))
    reviews = sorted(
        model_server.calls_for("review"), key=lambda call: f"draft 1 by {BOB.partition('-')[0].title()}" in call.text
    )
    (report,) = model_server.calls_for("report")
    assert (CUT_NOTE in continued.text, CUT_NOTE in report.text) == (True, True)
    assert [f"About the draft: {CUT_NOTE}" in call.text for call in reviews] == [True, False]
    documents = await stored_tree(service, done["executionId"])
    assert {agent: document["truncated"] for agent, document in documents.items()} == {
        HEAD: False,
        ADA: True,
        BOB: False,
    }


async def test_a_revised_answer_is_no_longer_a_cut_one(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", JUST_ADA)
    model_server.on("work", first_then(CUT_TEXT, "It was a dark and stormy night."))
    decisions = ('{"decision": "revision-needed", "notes": "Finish it."}', '{"decision": "approved", "notes": ""}')
    model_server.on("review", first_then(*decisions))

    done = await service.run_department(DEPARTMENT)

    assert (await stored_tree(service, done["executionId"]))[ADA]["truncated"] is False
    assert CUT_NOTE not in model_server.calls_for("report")[0].text


@pytest.mark.slow
async def test_a_report_that_was_cut_is_shown_and_judged_as_such(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", JUST_ADA)
    model_server.on("report", completion("## Summary\nAll went w", finish_reason="length"))

    done = await service.run_department(DEPARTMENT)

    assert (done["status"], done["truncated"]) == ("completed", True)
    assert CUT_NOTE in model_server.calls_for("judge")[-1].text


@pytest.mark.slow
@pytest.mark.parametrize("text", [JUST_ADA, JUST_ADA[:60]])
async def test_a_plan_that_was_cut_is_not_used(service: Service, model_server: ModelServer, text: str) -> None:
    cut = completion(text, finish_reason="length")
    model_server.on("plan", first_then(cut, plan_of((BOB, "Write it.", []))))
    repaired = await service.run_department(DEPARTMENT)
    model_server.on("plan", cut)
    fallen_back = await service.run_department(DEPARTMENT)

    planned = [
        [line["agentId"] for line in done["output"]["report"]["specialists"]] for done in (repaired, fallen_back)
    ]
    assert planned == [[BOB], [*SPECIALISTS]]
    thinking = of_type(await all_events(service, repaired["executionId"]), "agent-thinking")[0]
    assert thinking["usage"]["total"] == 2 * 15


async def test_a_truncated_verdict_is_requested_again_without_a_limit(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("judge", first_then(completion(judgment()[:40], finish_reason="length"), judgment()))

    done = await service.run_agent(ADA)

    assert done["qualityScore"] == 90
    assert [bool(call.body.get("max_tokens")) for call in model_server.calls_for("judge")] == [True, False]
