"""Orchestrations: several departments, their reports handed on, one result; over the public API."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.services.prompts.fences import fenced
from tests.fixtures.model_server import Call, ModelServer, Reply, judgment, one_does_all
from tests.fixtures.runs import (
    DEPARTMENT,
    Catalog,
    all_events,
    finished,
    gapless,
    nodes_of,
    of_type,
    stages,
    tree_of,
    types_of,
)
from tests.fixtures.services import PROJECT, Service

SIX = ("story", "character", "visual", "video", "audio", "production")
LEADER = "production-head-001"


def report_by_department(call: Call) -> Reply:
    """A report that says whose it is."""
    return f"## Summary\nReport of {speaker(call)}.\n\n## Next steps\nNone."


def speaker(call: Call) -> str:
    """The id of the agent as which a call speaks."""
    system = str(call.messages[0]["content"])
    return system.rpartition("You are ")[2].partition("(")[2].partition(")")[0]


@pytest.mark.slow
async def test_six_departments_with_all_their_agents_add_up(service: Service, model_server: ModelServer) -> None:
    model_server.on("report", report_by_department)

    done = await service.run_orchestration(*SIX, prompt="A film about salt.")

    tree = await tree_of(service, done["executionId"])
    events = await all_events(service, done["executionId"])
    nodes = nodes_of(tree)
    assert (done["kind"], done["status"], done["agent"]) == ("orchestration", "completed", LEADER)
    assert done["parentExecutionId"] is None
    assert [(node["kind"], node["department"], node["agent"]) for node in tree["children"]] == [
        ("department", slug, f"{slug}-head-001") for slug in SIX
    ]
    assert len(nodes) == 1 + 28
    assert {node["status"] for node in nodes} == {"completed"}
    assert all(
        (node["kind"], node["department"]) == ("agent", head["department"])
        for head in tree["children"]
        for node in head["children"]
    )
    assert gapless(events)
    assert {event["rootExecutionId"] for event in events} == {done["executionId"]}
    spent: Counter[str] = Counter()
    for event in events:
        spent[event["executionId"]] += event.get("usage", {}).get("total", 0)
    assert {node["executionId"]: node["tokenUsage"]["total"] for node in nodes} == spent
    assert spent.total() == 15 * len(model_server.calls)
    assert {call.execution_id for call in model_server.calls} == set(spent)


@pytest.mark.slow
async def test_each_department_is_given_the_reports_of_those_before_it(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("report", report_by_department)

    await service.run_orchestration(*SIX)

    plans = {speaker(call): call.text for call in model_server.calls_for("plan")}
    for place, slug in enumerate(SIX):
        for other_place, other in enumerate(SIX):
            report = f"## Summary\nReport of {other}-head-001.\n\n## Next steps\nNone."
            assert (fenced(f"REPORT OF {other}", report) in plans[f"{slug}-head-001"]) == (other_place < place)
    final = model_server.calls_for("orchestrate")[0].text
    assert all(f"Report of {slug}-head-001." in final for slug in SIX)


async def test_the_events_of_an_orchestration_are_complete(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", one_does_all)

    done = await service.run_orchestration("story", "audio")

    events = await all_events(service, done["executionId"])
    work = ["agent-start", "agent-response", "quality-check", "review-status", "agent-complete"]
    department = [
        *["agent-start", "department-start", "agent-thinking", *work],
        *["agent-response", "quality-check", "department-complete", "agent-complete"],
    ]
    progress = "orchestrator-progress"
    one = [progress, *department, progress]
    last = [progress, "agent-response", "quality-check", progress, "agent-complete"]
    assert types_of(events) == ["agent-start", progress, *one, *one, *last]
    assert stages(events) == [
        ("started", None, 0, 2),
        ("department-started", "story", 0, 2),
        ("department-completed", "story", 1, 2),
        ("department-started", "audio", 1, 2),
        ("department-completed", "audio", 2, 2),
        ("result", None, 2, 2),
        ("completed", None, 2, 2),
    ]
    children = {line["department"]: line["executionId"] for line in done["output"]["report"]["departments"]}
    named = {
        event["departmentSlug"]: event["departmentExecutionId"]
        for event in of_type(events, progress)
        if "departmentSlug" in event
    }
    assert {slug: named[slug] for slug in children} == children


@pytest.mark.slow
async def test_the_result_names_each_department_and_every_gate(service: Service, model_server: ModelServer) -> None:
    text = "## Summary\nOne film.\n\n## Next steps\nShoot it."
    model_server.on("report", report_by_department)
    model_server.on("orchestrate", text)

    done = await service.run_orchestration("story", "audio")

    children = [node["executionId"] for node in (await tree_of(service, done["executionId"]))["children"]]
    report = done["output"]["report"]
    assert (done["output"]["text"], report["text"], report["summary"]) == (text, text, "One film.")
    assert report["department"] == "production"
    assert report["departments"] == [
        {
            "department": slug,
            "executionId": execution_id,
            "status": "completed",
            "qualityScore": 90.0,
            "summary": f"Report of {slug}-head-001.",
        }
        for slug, execution_id in zip(("story", "audio"), children, strict=True)
    ]
    assert [(gate["name"], gate.get("department"), gate["threshold"]) for gate in report["gates"]] == [
        ("department", "story", 0.6),
        ("department", "audio", 0.6),
        ("orchestrator", None, 0.75),
    ]


@pytest.mark.parametrize(("score", "passed"), [(0.75, True), (0.74, False)])
async def test_the_last_gate_passes_at_exactly_its_threshold(
    service: Service, model_server: ModelServer, score: float, passed: bool
) -> None:
    dimensions: dict[str, Any] = dict.fromkeys(
        ("confidence", "completeness", "relevance", "consistency", "creativity", "technical"), score
    )
    model_server.on("judge", judgment(**dimensions))
    model_server.on("plan", one_does_all)

    done = await service.run_orchestration("story")

    gate = done["output"]["report"]["gates"][-1]
    assert (gate["name"], gate["passed"], gate["score"]) == ("orchestrator", passed, score)
    assert (done["status"], done["qualityScore"]) == ("completed", score * 100)
    assert bool(gate["issues"]) is not passed


@pytest.mark.slow
async def test_departments_run_by_priority_and_those_of_one_priority_at_once(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    barrier = asyncio.Barrier(2)

    async def plan(call: Call) -> Reply:
        if speaker(call) in ("video-head-001", "audio-head-001"):
            async with asyncio.timeout(10):
                await barrier.wait()
        return one_does_all(call)

    await catalog.edit_department("video", priority=1)
    await catalog.edit_department("audio", priority=1)
    model_server.on("plan", plan)
    model_server.on("report", report_by_department)

    done = await service.run_orchestration("production", "audio", "video")

    assert [speaker(call) for call in model_server.calls_for("plan")][2] == LEADER
    assert [line["department"] for line in done["output"]["report"]["departments"]] == ["audio", "video", "production"]
    told = {speaker(call): call.text for call in model_server.calls_for("plan")}
    assert "REPORT OF" not in told["audio-head-001"] + told["video-head-001"]
    assert all(f"REPORT OF {slug}" in told[LEADER] for slug in ("audio", "video"))


@pytest.mark.slow
async def test_without_a_choice_all_active_departments_run(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    await catalog.edit_department("video", isActive=False)
    model_server.on("plan", one_does_all)

    done = await service.run_orchestration()

    ran = [line["department"] for line in done["output"]["report"]["departments"]]
    assert ran == [*(slug for slug in SIX if slug != "video"), DEPARTMENT]


@pytest.mark.slow
async def test_the_head_of_production_leads_and_may_head_its_own_department_in_the_same_tree(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)

    done = await service.run_orchestration("production")

    tree = await tree_of(service, done["executionId"])
    assert (tree["agent"], tree["children"][0]["agent"]) == (LEADER, LEADER)
    assert tree["executionId"] != tree["children"][0]["executionId"]
    assert [child["department"] for child in tree["children"][0]["children"]] == ["production"]


@pytest.mark.slow
async def test_a_long_report_is_handed_on_as_its_summary_and_its_beginning(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)
    model_server.on("report", f"# Salt\n\n## Summary\nThe gist.\n\n{'More. ' * 3000}")

    await service.run_orchestration("story", "audio")

    told = model_server.calls_for("plan")[1].text
    assert "Summary: The gist." in told
    assert "more characters]" in told
    assert len(told) < 12_000


@pytest.mark.slow
async def test_an_accepted_orchestration_shows_its_kind(service: Service) -> None:
    answer = await service.http.post(
        "/api/v1/orchestrations", json={"prompt": "Go.", "project": PROJECT, "departments": ["story"]}
    )

    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/executions/{body['executionId']}"
    assert {name: body[name] for name in ("kind", "agent", "department", "parentExecutionId")} == {
        "kind": "orchestration",
        "agent": LEADER,
        "department": "production",
        "parentExecutionId": None,
    }
    await finished(service, body["executionId"])


@pytest.mark.slow
async def test_an_orchestration_is_started_once_for_an_idempotency_key(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)
    body = {"prompt": "Go.", "project": PROJECT, "departments": ["story"]}
    headers = {"Idempotency-Key": "orchestration-1"}

    first = await service.http.post("/api/v1/orchestrations", json=body, headers=headers)
    again = await service.http.post("/api/v1/orchestrations", json=body, headers=headers)
    other = await service.http.post("/api/v1/orchestrations", json=body | {"departments": ["audio"]}, headers=headers)

    assert first.json()["executionId"] == again.json()["executionId"]
    assert (again.headers["idempotency-replayed"], other.status_code) == ("true", 422)
    await finished(service, first.json()["executionId"])
