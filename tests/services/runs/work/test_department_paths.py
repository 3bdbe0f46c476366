"""Every path of a department run, with its exact events and documents: who did what, in which order, and how it stands.

One specialist keeps the order of events certain. An event is written `who: type`, with what it decided.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from app.database.connection import Raw
from tests.fixtures.model_server import GOOD_SCORES, Call, Json, ModelServer, Reply, fault, judgment, plan_of, review
from tests.fixtures.runs import ADA, DEPARTMENT, HEAD, Catalog, all_events, first_then, gapless, stored_tree
from tests.fixtures.services import Service

BEGIN = ["head: agent-start", "head: department-start", "head: agent-thinking", "ada: agent-start"]
DRAFT = ["ada: agent-response", "ada: quality-check 0.9"]
REPORT = [
    "head: agent-response",
    "head: quality-check 0.9",
    "head: department-complete",
    "head: agent-complete completed",
]
JUST_ADA = plan_of((ADA, "Write it.", []))
WEAK = judgment(**dict.fromkeys(GOOD_SCORES, 0.4))


def by_agent(ada: Reply, head: Reply) -> Any:  # noqa: ANN401 - a script
    """A judge that tells the specialist's work from the head's by the execution that it judges."""
    seen: list[str] = []

    def script(call: Call) -> Reply:
        seen.append(call.execution_id)
        return ada if call.execution_id == seen[0] else head

    return script


@dataclass(frozen=True)
class Path:
    """The models' answers, and the expected result."""

    scripts: dict[str, Any]
    events: list[str]
    ada: Json
    root: Json = field(default_factory=lambda: {"status": "completed", "stopReason": "completed", "qualityScore": 90.0})
    agent: Json = field(default_factory=dict[str, Any])
    body: Json = field(default_factory=dict[str, Any])


PATHS = {
    "approval": Path(
        {"review": review("approved", "Good.")},
        [*BEGIN, *DRAFT, "ada: review-status approved", "ada: agent-complete completed", *REPORT],
        {"status": "completed", "reviewStatus": "approved", "retryCount": 0, "qualityScore": 90.0, "tokens": 45},
    ),
    "revision then approval": Path(
        {"review": first_then(review("revision-needed", "More."), review("approved", "Good."))},
        [
            *BEGIN,
            *DRAFT,
            "ada: review-status revision-needed",
            *DRAFT,
            "ada: review-status approved",
            "ada: agent-complete completed",
            *REPORT,
        ],
        {"status": "completed", "reviewStatus": "approved", "retryCount": 1, "qualityScore": 90.0, "tokens": 90},
    ),
    "rejection": Path(
        {"review": review("rejected", "No.")},
        [*BEGIN, *DRAFT, "ada: review-status rejected", "ada: agent-complete rejected", *REPORT],
        {"status": "completed", "reviewStatus": "rejected", "stopReason": "rejected", "retryCount": 0, "tokens": 45},
    ),
    "revisions used up": Path(
        {"review": review("revision-needed", "More.")},
        [
            *BEGIN,
            *([*DRAFT, "ada: review-status revision-needed"] * 3),
            "ada: agent-complete completed",
            *REPORT,
        ],
        {"status": "completed", "reviewStatus": "revision-needed", "retryCount": 2, "tokens": 135},
        body={"maxRevisions": 2},
    ),
    "judge garbage": Path(
        {"judge": "I liked it."},
        [
            *BEGIN,
            "ada: agent-response",
            "ada: quality-check None",
            "ada: review-status approved",
            "ada: agent-complete completed",
            "head: agent-response",
            "head: quality-check None",
            "head: department-complete",
            "head: agent-complete completed",
        ],
        {"status": "completed", "reviewStatus": "approved", "qualityScore": None, "tokens": 60},
        root={"status": "completed", "stopReason": "completed", "qualityScore": None},
    ),
    "judge away": Path(
        {"judge": fault(500)},
        [
            *BEGIN,
            "ada: agent-response",
            "ada: quality-check None",
            "ada: review-status approved",
            "ada: agent-complete completed",
            "head: agent-response",
            "head: quality-check None",
            "head: department-complete",
            "head: agent-complete completed",
        ],
        {"status": "completed", "reviewStatus": "approved", "qualityScore": None, "tokens": 30},
        root={"status": "completed", "stopReason": "completed", "qualityScore": None},
    ),
    "no review asked, good enough": Path(
        {},
        [*BEGIN, *DRAFT, "ada: agent-complete completed", *REPORT],
        {"status": "completed", "reviewStatus": "pending", "qualityScore": 90.0, "tokens": 30},
        agent={"requiresReview": False, "qualityThreshold": 90},
    ),
    "no review asked, below the threshold": Path(
        {},
        [*BEGIN, *DRAFT, "ada: review-status approved", "ada: agent-complete completed", *REPORT],
        {"status": "completed", "reviewStatus": "approved", "qualityScore": 90.0, "tokens": 45},
        agent={"requiresReview": False, "qualityThreshold": 90.01},
    ),
    "below the gate": Path(
        {"judge": by_agent(WEAK, judgment())},
        [
            *BEGIN,
            "ada: agent-response",
            "ada: quality-check 0.4",
            "ada: review-status approved",
            "ada: agent-complete completed",
            *REPORT,
        ],
        {"status": "completed", "reviewStatus": "approved", "qualityScore": 40.0, "tokens": 45},
    ),
    "reviewer without a decision": Path(
        {"review": "Hm."},
        [*BEGIN, *DRAFT, "ada: review-status pending", "ada: agent-complete completed", *REPORT],
        {"status": "completed", "reviewStatus": "pending", "retryCount": 0, "tokens": 60},
    ),
    "failing specialist, who is all there is": Path(
        {"work": fault(400)},
        [*BEGIN, "ada: agent-error model-request-refused", "head: agent-error all-specialists-failed"],
        {"status": "failed", "reviewStatus": "pending", "stopReason": "error", "tokens": 0, "output": None},
        root={"status": "failed", "stopReason": "error", "output": None},
    ),
    "head failing at its report": Path(
        {"report": fault(400)},
        [
            *BEGIN,
            *DRAFT,
            "ada: review-status approved",
            "ada: agent-complete completed",
            "head: agent-error model-request-refused",
        ],
        {"status": "completed", "reviewStatus": "approved", "tokens": 45},
        root={"status": "failed", "stopReason": "error", "output": None},
    ),
}


def written(event: Json) -> str:
    """An event as the paths write it."""
    who = "head" if event["agentId"] == HEAD else event["agentId"].partition("-")[0]
    decided = {
        "quality-check": event.get("score"),
        "review-status": event.get("status"),
        "agent-complete": event.get("stopReason"),
        "agent-error": (event.get("error") or {}).get("code"),
    }
    detail = f" {decided[event['type']]}" if event["type"] in decided else ""
    return f"{who}: {event['type']}{detail}"


def as_stands(document: Raw) -> Json:
    """How a document stands, with its tokens as one number."""
    return {**document, "tokens": document["tokenUsage"]["total"]}


@pytest.mark.parametrize("name", list(PATHS))
async def test_a_path_has_exactly_its_events_and_leaves_its_documents(
    service: Service, model_server: ModelServer, catalog: Catalog, name: str
) -> None:
    path = PATHS[name]
    if path.agent:
        await catalog.edit_agent(ADA, **path.agent)
    model_server.on("plan", JUST_ADA)
    for purpose, script in path.scripts.items():
        model_server.on(purpose, script)

    done = await service.run_department(DEPARTMENT, **path.body)

    events = await all_events(service, done["executionId"])
    documents = await stored_tree(service, done["executionId"])
    ada, root = as_stands(documents[ADA]), as_stands(documents[HEAD])
    assert [written(event) for event in events] == path.events
    assert gapless(events)
    assert {field: ada.get(field) for field in path.ada} == path.ada
    assert {field: root.get(field) for field in path.root} == path.root
    assert (ada["kind"], ada["parentExecutionId"]) == ("agent", done["executionId"])
    assert [row["event"]["seq"] for row in root["events"]] == [
        event["seq"] for event in events if event["executionId"] == done["executionId"]
    ]
    assert root["lease"] is None


async def test_all_specialists_work_if_the_plan_is_unusable(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", plan_of((ADA, "A", ["unknown-001"])))

    done = await service.run_department(DEPARTMENT)

    events = await all_events(service, done["executionId"])
    plan = next(event for event in events if "plan" in event)
    assert [(one["agentId"], one["dependsOn"]) for one in plan["plan"]["assignments"]] == [
        (agent, []) for agent in ("ada-001", "bob-001", "cyd-001")
    ]
    assert len(model_server.calls_for("plan")) == 2
    assert plan["usage"]["total"] == 30
    assert done["status"] == "completed"


async def test_all_specialists_work_if_the_plans_repair_fails_and_both_calls_are_billed(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", first_then("No plan.", fault(500)))

    done = await service.run_department(DEPARTMENT)

    plan = next(event for event in await all_events(service, done["executionId"]) if "plan" in event)
    assert len(plan["plan"]["assignments"]) == 3
    assert (plan["usage"]["total"], done["status"]) == (15, "completed")


async def test_a_head_that_cannot_plan_fails_the_run_before_anybody_works(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", fault(403))

    done = await service.run_department(DEPARTMENT)

    events = await all_events(service, done["executionId"])
    assert [written(event) for event in events] == [
        "head: agent-start",
        "head: department-start",
        "head: agent-error model-access-denied",
    ]
    assert (done["status"], done["error"]["code"]) == ("failed", "model-access-denied")
