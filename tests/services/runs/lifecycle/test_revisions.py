# pyright: reportPrivateUsage=false
# Tests wait for internals that work in the background.
"""Work that a person sends back after the end: it is revised, and every report above it is rewritten."""

from collections import Counter
from datetime import timedelta

import pytest

from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, RevisionRequest
from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, fault, judgment, one_does_all, review
from tests.fixtures.runs import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    gapless,
    of_type,
    stored,
    stored_once,
    stored_tree,
    types_of,
    until,
)
from tests.fixtures.services import Service
from tests.services.runs.reviewing import PERSON, TWO, send_review, two_specialists


async def send_back(service: Service, execution_id: str, notes: str = "Warmer.") -> Json:
    """Send an execution back; the answer."""
    answer = await send_review(service, execution_id, "revision-needed", notes)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def test_a_specialist_that_is_sent_back_revises_and_the_report_is_rewritten(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)
    model_server.on("work", "Ada's warmer work.")
    model_server.on("judge", judgment(**dict.fromkeys(("relevance", "completeness", "consistency"), 0.7)))
    model_server.on("review", review("approved", "Much warmer."))
    model_server.on("report", "## Summary\nWarmer.")
    before = await all_events(service, done["executionId"])

    accepted = await send_back(service, ids[ADA], "Warmer, please.")
    root = await finished(service, done["executionId"])

    assert (accepted["status"], accepted["executionId"], accepted["reviewStatus"]) in {
        ("running", ids[ADA], status) for status in ("approved", "revision-needed")
    }
    assert Counter(call.purpose for call in model_server.calls) == {"work": 1, "judge": 2, "review": 1, "report": 1}
    events = await all_events(service, done["executionId"])
    assert events[: len(before)] == before
    assert gapless(events)
    assert [(event["executionId"], event["type"]) for event in events[len(before) :]] == [
        (ids[ADA], "review-status"),
        (ids[HEAD], "agent-retry"),
        (ids[ADA], "agent-response"),
        (ids[ADA], "quality-check"),
        (ids[ADA], "review-status"),
        (ids[ADA], "agent-complete"),
        (ids[HEAD], "agent-response"),
        (ids[HEAD], "quality-check"),
        (ids[HEAD], "department-complete"),
        (ids[HEAD], "agent-complete"),
    ]
    asked, retry = events[len(before)], events[len(before) + 1]
    assert (asked["status"], asked["notes"], asked["reviewer"]) == ("revision-needed", "Warmer, please.", PERSON)
    assert (retry["reason"], retry["attempt"]) == ("revision", 1)
    ada = (await stored_tree(service, done["executionId"]))[ADA]
    assert (ada["status"], ada["output"]["text"], ada["retryCount"]) == ("completed", "Ada's warmer work.", 1)
    assert (ada["reviewStatus"], ada["reviewNotes"]) == ("approved", "Much warmer.")
    assert ada["qualityScore"] == 77  # 0.65 of 0.7 and 0.35 of 0.9
    assert ada["tokenUsage"]["total"] == 6 * 15
    told = model_server.calls_for("work")[0].messages
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert "Warmer, please." in told[-1]["content"]
    assert told[-1]["content"].startswith("A person who read your work asks for a revision:")
    report = model_server.calls_for("report")[0]
    assert "Ada's warmer work." in report.text
    assert "The work is done." in report.text  # Bob's, as it was
    assert [message["role"] for message in report.messages] == ["system", "user"]
    assert root["output"]["report"]["summary"] == "Warmer."
    assert {line["agentId"]: line["qualityScore"] for line in root["output"]["report"]["specialists"]} == {
        ADA: 77,
        BOB: 90,
    }
    assert root["lease"] is None
    assert "personReview" not in root


async def test_a_standalone_agent_revises_alone_and_waits_for_a_review(
    service: Service, model_server: ModelServer
) -> None:
    done = await service.run_agent(ADA)
    model_server.on("work", "Warmer.")

    await send_back(service, done["executionId"])
    ended = await finished(service, done["executionId"])

    events = await all_events(service, done["executionId"])
    assert types_of(events)[-5:] == [
        "review-status",
        "agent-response",
        "quality-check",
        "review-status",
        "agent-complete",
    ]
    assert (ended["output"]["text"], ended["retryCount"], ended["reviewStatus"]) == ("Warmer.", 1, "pending")
    assert ended["personReview"]["status"] == "revision-needed"


async def test_a_head_that_is_sent_back_writes_its_report_with_the_notes(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)
    model_server.on("report", "## Summary\nShorter.")

    await send_back(service, ids[HEAD], "Shorter.")
    root = await finished(service, done["executionId"])

    assert Counter(call.purpose for call in model_server.calls) == {"report": 1, "judge": 1}
    told = model_server.calls_for("report")[0].messages
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert "Shorter." in told[-1]["content"]
    assert (root["output"]["report"]["summary"], root["retryCount"]) == ("Shorter.", 1)


@pytest.mark.slow
async def test_in_an_orchestration_every_report_above_is_rewritten(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", plan_by_head)
    done = await service.run_orchestration("story", DEPARTMENT)
    ids = {agent: raw["executionId"] for agent, raw in (await stored_tree(service, done["executionId"])).items()}
    model_server.calls.clear()
    model_server.on("orchestrate", "## Summary\nOne warmer film.")

    await send_back(service, ids[ADA])
    root = await finished(service, done["executionId"])

    assert Counter(call.purpose for call in model_server.calls) == {
        "work": 1,
        "judge": 3,
        "review": 1,
        "report": 1,
        "orchestrate": 1,
    }
    events = await all_events(service, done["executionId"])
    assert gapless(events)
    reopened = of_type(events, "review-status")[-2]["seq"]
    assert [event["executionId"] for event in events if event["seq"] > reopened and event["type"] == "agent-retry"] == [
        ids[HEAD],
        done["executionId"],
    ]
    later = [event for event in of_type(events, "orchestrator-progress") if event["seq"] > reopened]
    assert [(event["stage"], event["done"], event["total"]) for event in later] == [
        ("result", 2, 2),
        ("completed", 2, 2),
    ]
    assert root["output"]["report"]["summary"] == "One warmer film."
    assert [line["status"] for line in root["output"]["report"]["departments"]] == ["completed"] * 2


def plan_by_head(call: Call) -> Reply:
    """Ada and Bob for the writers, the first specialist for others."""
    return TWO if call.is_from(HEAD) else one_does_all(call)


async def test_a_revision_that_fails_fails_the_specialist_and_the_report_says_so(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)
    model_server.on("work", fault(400))

    await send_back(service, ids[ADA])
    root = await finished(service, done["executionId"])

    assert root["status"] == "completed"
    assert {line["agentId"]: line["status"] for line in root["output"]["report"]["specialists"]} == {
        ADA: "failed",
        BOB: "completed",
    }


async def test_a_report_that_cannot_be_rewritten_is_retried_from_there(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)
    model_server.on("work", "Warmer.")
    model_server.on("report", fault(400))
    await send_back(service, ids[ADA])
    failed = await finished(service, done["executionId"])
    model_server.calls.clear()
    model_server.on("report", "## Summary\nWarmer at last.")

    answer = await service.http.post(f"/api/v1/executions/{done['executionId']}/retry", headers={"Prefer": "wait=30"})

    again = answer.json()
    assert (failed["status"], again["status"]) == ("failed", "completed")
    assert Counter(call.purpose for call in model_server.calls) == {"report": 1, "judge": 1}
    assert again["output"]["report"]["summary"] == "Warmer at last."
    assert "Warmer." in model_server.calls_for("report")[0].text
    assert gapless(await all_events(service, again["executionId"]))


async def test_an_execution_s_time_is_the_time_that_it_worked(service: Service) -> None:
    done = await service.run_agent(ADA)
    executions = service.services.database[AgentExecution.get_collection_name()]
    long_ago = utc_now() - timedelta(days=3)
    await executions.update_one(
        {"executionId": done["executionId"]}, {"$set": {"startedAt": long_ago, "executionTime": 1500}}
    )

    await send_back(service, done["executionId"])
    ended = await finished(service, done["executionId"])

    assert 1500 <= ended["executionTime"] < 60_000
    assert ended["startedAt"] == long_ago


async def test_an_execution_is_counted_once_however_often_it_is_revised(service: Service) -> None:
    agents = service.services.database["agents"]

    async def counted() -> int:
        found = await agents.find_one({"agentId": ADA})
        return (found or {}).get("totalExecutions", 0)

    done = await service.run_agent(ADA)
    await service.services.engine.outbox.settle()
    before = await counted()
    await send_back(service, done["executionId"])
    await finished(service, done["executionId"])

    await service.services.engine.outbox.settle()

    assert await counted() == before


async def test_subscribers_of_a_reopened_run_see_it_to_its_new_end(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    done, ids = await two_specialists(service, model_server)
    model_server.on("work", lambda _: gate.passed("Warmer."))
    await send_back(service, ids[ADA])
    head = await service.services.hub.head(done["executionId"])
    assert head.status == "running"

    gate.open()
    seen = [item async for item in service.services.hub.follow(head, done["lastSeq"])]

    assert seen[-1].last_seq == (await stored(service, done["executionId"]))["lastSeq"]  # pyright: ignore[reportAttributeAccessIssue] - an Ending
    assert len(seen) == 11


@pytest.mark.slow
@pytest.mark.usefixtures("lone_processes")
@pytest.mark.parametrize("noted", [False, True])
async def test_a_revision_whose_process_dies_is_carried_on_by_another(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate, noted: bool
) -> None:
    first = await start_process()
    model_server.on("plan", TWO)
    execution_id = await accept(service, first, "department")
    await finished(service, execution_id)
    ids = {agent: raw["executionId"] for agent, raw in (await stored_tree(service, execution_id)).items()}
    members = [ids[ADA], execution_id]
    revision_request = RevisionRequest(
        execution_id=ids[ADA], notes="Warmer $$NOW.", name="someone", person_review={"status": "x"}
    )
    assert await first.leases.reopen(execution_id, members, revision_request) is not None
    await die(first)
    if noted:  # it got as far as half of its events
        model_server.on("work", lambda _: gate.passed("Too late."))
        other = await start_process()
        await expire(service, execution_id)
        await until(lambda: gate.waiting == 1)
        await stored_once(service, execution_id, lambda document: document.get("reopening") is None)
        await die(other)
        model_server.on("work", "Warmer.")
    await start_process()
    await expire(service, execution_id)

    root = await stored_once(
        service, execution_id, lambda document: document["status"] == "completed" and not document.get("reopening")
    )

    events = await all_events(service, execution_id)
    assert gapless(events)
    asked = [event for event in of_type(events, "review-status") if event.get("reopens")]
    assert [event["notes"] for event in asked] == ["Warmer $$NOW."]
    assert [event["reason"] for event in of_type(events, "agent-retry")] == ["revision", *["taken-over"] * noted]
    assert root["lease"] is None
    assert (await stored_tree(service, execution_id))[ADA]["retryCount"] == 1


@pytest.mark.usefixtures("lone_processes")
async def test_a_process_that_takes_no_runs_leaves_a_revision_to_one_that_does(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    idle, worker = await start_process(RunLimits(max_concurrent=0)), await start_process()
    model_server.on("plan", TWO)
    execution_id = await accept(service, worker, "department")
    await finished(service, execution_id)
    ids = {agent: raw["executionId"] for agent, raw in (await stored_tree(service, execution_id)).items()}
    model_server.on("work", "Warmer.")
    revision_request = RevisionRequest(
        execution_id=ids[ADA], notes="Warmer.", name="someone", person_review={"status": "x"}
    )

    assert await idle.reopen(execution_id, [ids[ADA], execution_id], revision_request)

    assert execution_id not in idle.owned
    root = await stored_once(
        service, execution_id, lambda document: document["status"] == "completed" and not document.get("reopening")
    )
    events = await all_events(service, execution_id)
    assert gapless(events)
    assert [event["reason"] for event in of_type(events, "agent-retry")] == ["revision"]
    assert (await stored_tree(service, execution_id))[ADA]["output"]["text"] == "Warmer."
    assert (root["lease"], root["takeovers"]) == (None, 0)
