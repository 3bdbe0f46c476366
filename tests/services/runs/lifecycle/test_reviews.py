"""Reviews by people, at any time after the end: who decided what is noted, and what makes no sense is refused."""

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.models.agent_execution import AgentExecution
from tests.fixtures.model_server import ModelServer, fault
from tests.fixtures.runs import (
    ADA,
    BOB,
    HEAD,
    Catalog,
    Gate,
    all_events,
    finished,
    gapless,
    of_type,
    stored,
    stored_tree,
    types_of,
    until,
)
from tests.fixtures.services import PROJECT, Service
from tests.services.runs.reviewing import PERSON, send_review, two_specialists


@pytest.mark.parametrize("status", ["approved", "rejected"])
async def test_a_person_s_decision_is_stored_with_an_event_after_the_end(service: Service, status: str) -> None:
    done = await service.run_agent(ADA)

    answer = await send_review(service, done["executionId"], status, "Seen.")

    events = await all_events(service, done["executionId"])
    assert (answer.status_code, answer.json()["reviewStatus"], answer.json()["reviewNotes"]) == (200, status, "Seen.")
    assert answer.json()["status"] == "completed"
    assert types_of(events)[-2:] == ["agent-complete", "review-status"]
    assert gapless(events)
    told = {name: events[-1][name] for name in ("agentId", "status", "notes", "reviewer", "retryCount")}
    assert told == {"agentId": ADA, "status": status, "notes": "Seen.", "reviewer": PERSON, "retryCount": 0}
    document = await stored(service, done["executionId"])
    assert document["personReview"]["status"] == status
    assert (document["personReview"]["qualityScore"], document["personReview"]["passed"]) == (90.0, True)
    assert (document["lease"], document["lastSeq"]) == (None, events[-1]["seq"])
    shown = answer.json()["personReview"]
    assert datetime.fromisoformat(shown.pop("at")) == document["personReview"]["at"]
    reviewer = {"type": "api-key", "name": PERSON["name"]}
    assert shown == {"status": status, "notes": "Seen.", "reviewer": reviewer, "superseded": False}


async def test_a_person_may_decide_again_and_on_any_execution_of_a_tree(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)

    for agent, status in ((ADA, "rejected"), (HEAD, "approved"), (ADA, "approved")):
        assert (await send_review(service, ids[agent], status)).status_code == 200

    events = await all_events(service, done["executionId"])
    assert gapless(events)
    assert [(event["executionId"], event["status"]) for event in events[-3:]] == [
        (ids[ADA], "rejected"),
        (ids[HEAD], "approved"),
        (ids[ADA], "approved"),
    ]
    documents = await stored_tree(service, done["executionId"])
    assert documents[ADA]["reviewStatus"] == documents[HEAD]["reviewStatus"] == "approved"
    assert documents[ADA].get("reviewedBy") is None  # the head's review no longer stands, and a person is not an agent
    assert documents[HEAD].get("reviewedBy") is None
    assert model_server.calls == []


@pytest.mark.slow
async def test_the_response_names_the_author_of_the_latest_review(service: Service, model_server: ModelServer) -> None:
    done, ids = await two_specialists(service, model_server)
    root_id, path = done["executionId"], f"/api/v1/executions/{ids[ADA]}"
    by_head = (await service.http.get(path)).json()
    await send_review(service, root_id, "approved", "Well done.")

    answer = (await send_review(service, ids[ADA], "revision-needed", "Shorter.")).json()
    await service.services.engine.wait_for_end(root_id)

    ada, root = (await service.http.get(path)).json(), (await service.http.get(f"/api/v1/executions/{root_id}")).json()
    listed = (await service.http.get("/api/v1/executions", params={"rootExecutionId": root_id})).json()["items"]
    assert (by_head["reviewedBy"], by_head["personReview"]) == (HEAD, None)
    assert (answer["reviewedBy"], answer["reviewStatus"], answer["personReview"]["superseded"]) == (
        None,
        "revision-needed",
        False,
    )
    assert (ada["reviewedBy"], ada["reviewStatus"]) == (HEAD, "approved")  # the head decided on the revision
    assert (ada["personReview"]["notes"], ada["personReview"]["superseded"]) == ("Shorter.", True)
    assert (root["personReview"]["status"], root["personReview"]["superseded"]) == ("approved", True)
    [in_list] = [one for one in listed if one["executionId"] == ids[ADA]]
    assert {name: in_list[name] for name in ("reviewedBy", "personReview")} == {
        name: ada[name] for name in ("reviewedBy", "personReview")
    }


async def test_after_a_review_of_a_child_its_root_shows_the_number_of_the_last_event_in_its_tree(
    service: Service, model_server: ModelServer
) -> None:
    done, ids = await two_specialists(service, model_server)

    await send_review(service, ids[ADA], "approved")

    path = "/api/v1/executions/"
    root, ada, bob = [(await service.http.get(path + one)).json() for one in (done["executionId"], ids[ADA], ids[BOB])]
    events = await all_events(service, done["executionId"])
    assert events[-1]["executionId"] == ids[ADA]
    assert root["lastSeq"] == ada["lastSeq"] == events[-1]["seq"] == done["lastSeq"] + 1
    assert bob["lastSeq"] == max(event["seq"] for event in events if event["executionId"] == ids[BOB])


@pytest.mark.slow
async def test_ten_concurrent_reviews_are_all_stored_or_refused_with_a_conflict(service: Service) -> None:
    done = await service.run_agent(ADA)

    answers = await asyncio.gather(*(send_review(service, done["executionId"], "approved", str(n)) for n in range(10)))

    heard = [answer for answer in answers if answer.status_code == 200]
    events = await all_events(service, done["executionId"])
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert heard
    assert len(of_type(events, "review-status")) == len(heard)
    assert gapless(events)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"status": "revision-needed"}, "notes"),
        ({"status": "revision-needed", "notes": "  "}, "notes"),
        ({"status": "pending"}, "status"),
        ({"status": "approved", "notes": 5}, "notes"),
        ({"status": "approved", "reviewer": "me"}, "reviewer"),
    ],
)
async def test_a_review_that_makes_no_sense_is_refused(service: Service, body: dict[str, Any], path: str) -> None:
    done = await service.run_agent(ADA)

    answer = await service.http.post(f"/api/v1/executions/{done['executionId']}/review", json=body)

    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, [path])


async def test_a_running_run_cannot_be_reviewed(service: Service, model_server: ModelServer, gate: Gate) -> None:
    model_server.on("work", lambda _: gate.passed("Late."))
    accepted = await service.http.post(f"/api/v1/agents/{ADA}/runs", json={"prompt": "Go.", "project": PROJECT})
    execution_id = accepted.json()["executionId"]
    await until(lambda: gate.waiting == 1)

    answers = [await send_review(service, execution_id, status, "Now.") for status in ("approved", "revision-needed")]
    gate.open()
    await finished(service, execution_id)

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "execution-unfinished")] * 2


async def test_failed_and_cancelled_executions_and_those_of_inactive_agents_cannot_be_sent_back(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    done = await service.run_agent(ADA)
    model_server.on("work", fault(400))
    failed = await service.run_agent(ADA)
    await catalog.edit_agent(ADA, isActive=False)

    inactive = await send_review(service, done["executionId"], "revision-needed", "Again.")
    refused = await send_review(service, failed["executionId"], "revision-needed", "Again.")
    noted = await send_review(service, failed["executionId"], "rejected", "Seen.")

    assert (inactive.status_code, inactive.json()["code"]) == (409, "agent-inactive")
    assert (refused.status_code, refused.json()["code"]) == (409, "execution-not-revisable")
    assert (noted.status_code, noted.json()["status"]) == (200, "failed")


async def test_another_program_s_execution_and_one_of_another_project_cannot_be_reviewed(service: Service) -> None:
    executions = service.services.database[AgentExecution.get_collection_name()]
    await executions.insert_one({"executionId": "exec_foreign_review", "status": "completed", "prompt": "Theirs."})
    made = await service.http.post(
        "/api/v1/api-keys", json={"name": "elsewhere", "role": "runner", "projects": ["66f0a1b2c3d4e5f601234500"]}
    )
    done = await service.run_agent(ADA)

    foreign = await send_review(service, "exec_foreign_review", "approved")
    async with httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": made.json()["key"]}) as elsewhere:
        hidden = await elsewhere.post(f"/api/v1/executions/{done['executionId']}/review", json={"status": "approved"})

    assert (foreign.status_code, foreign.json()["code"]) == (409, "execution-foreign")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "execution-not-found")
