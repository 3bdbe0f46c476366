"""Orchestrations: several departments, their reports handed on, one result; over the public API."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from app.services.prompts.fencing import fenced
from tests.conftest import PROJECT, Service
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, fault, judgement, plan_of
from tests.services.runs.conftest import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    Catalogue,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    gapless,
    of_type,
    types_of,
    until,
)

SIX = ("story", "character", "visual", "video", "audio", "production")
LEADER = "production-head-001"


def report_by_department(call: Call) -> Reply:
    """A report that says whose it is."""
    return f"## Summary\nReport of {speaker(call)}.\n\n## Next steps\nNone."


def speaker(call: Call) -> str:
    """The id of the agent as which a call speaks."""
    system = str(call.messages[0]["content"])
    return system.rpartition("You are ")[2].partition("(")[2].partition(")")[0]


def nobody(call: Call) -> Reply:
    """A plan that gives the first specialist the whole work."""
    schema = call.body["response_format"]["json_schema"]["schema"]
    agents = schema["properties"]["assignments"]["items"]["properties"]["agentId"]["enum"]
    return plan_of((agents[0], "Do it.", []))


async def tree_of(service: Service, execution_id: str) -> Json:
    """The run tree as the API shows it."""
    return (await service.http.get(f"/api/v1/executions/{execution_id}/tree")).json()


def nodes_of(tree: Json) -> list[Json]:
    """A tree's nodes, parents before children."""
    return [tree, *(node for child in tree["children"] for node in nodes_of(child))]


def stages(events: list[Json]) -> list[tuple[str, str | None, int, int]]:
    """The progress that the events tell: stage, department, done, total."""
    return [
        (event["stage"], event.get("departmentSlug"), event["done"], event["total"])
        for event in of_type(events, "orchestrator-progress")
    ]


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


async def test_the_events_of_an_orchestration_tell_its_whole_story(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", nobody)

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
    model_server.on("judge", judgement(**dimensions))
    model_server.on("plan", nobody)

    done = await service.run_orchestration("story")

    gate = done["output"]["report"]["gates"][-1]
    assert (gate["name"], gate["passed"], gate["score"]) == ("orchestrator", passed, score)
    assert (done["status"], done["qualityScore"]) == ("completed", score * 100)
    assert bool(gate["issues"]) is not passed


async def test_departments_run_by_priority_and_those_of_one_priority_at_once(
    service: Service, model_server: ModelServer, catalogue: Catalogue
) -> None:
    barrier = asyncio.Barrier(2)

    async def plan(call: Call) -> Reply:
        if speaker(call) in ("video-head-001", "audio-head-001"):
            async with asyncio.timeout(10):
                await barrier.wait()
        return nobody(call)

    await catalogue.edit_department("video", priority=1)
    await catalogue.edit_department("audio", priority=1)
    model_server.on("plan", plan)
    model_server.on("report", report_by_department)

    done = await service.run_orchestration("production", "audio", "video")

    assert [speaker(call) for call in model_server.calls_for("plan")][2] == LEADER
    assert [line["department"] for line in done["output"]["report"]["departments"]] == ["audio", "video", "production"]
    told = {speaker(call): call.text for call in model_server.calls_for("plan")}
    assert "REPORT OF" not in told["audio-head-001"] + told["video-head-001"]
    assert all(f"REPORT OF {slug}" in told[LEADER] for slug in ("audio", "video"))


async def test_a_department_that_fails_is_reported_and_the_rest_goes_on(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)
    model_server.on("report", lambda call: fault(400) if speaker(call) == "story-head-001" else "Fine.")

    done = await service.run_orchestration("story", "audio")

    story, audio = done["output"]["report"]["departments"]
    assert (done["status"], story["status"], audio["status"]) == ("completed", "failed", "completed")
    assert story["error"]["code"] == "model-request-refused"
    assert "Story Department failed and has no report." in model_server.calls_for("plan")[1].text
    assert "Story Department (story): failed, no score." in model_server.calls_for("orchestrate")[0].text
    events = await all_events(service, done["executionId"])
    assert ("department-failed", "story", 1, 2) in stages(events)
    tree = await tree_of(service, done["executionId"])
    assert [child["status"] for child in tree["children"]] == ["failed", "completed"]


async def test_when_all_departments_fail_the_run_fails(service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", fault(400))

    done = await service.run_orchestration("story", "audio")

    assert (done["status"], done["error"]["code"]) == ("failed", "all-departments-failed")
    assert "story: model-request-refused; audio: model-request-refused" in done["error"]["message"]
    nodes = nodes_of(await tree_of(service, done["executionId"]))
    assert [node["status"] for node in nodes] == ["failed"] * 3
    assert model_server.calls_for("orchestrate") == []


async def test_a_result_that_cannot_be_written_fails_the_run_and_keeps_the_departments_work(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)
    model_server.on("orchestrate", fault(400))

    done = await service.run_orchestration("story")

    assert (done["status"], done["error"]["code"]) == ("failed", "model-request-refused")
    tree = await tree_of(service, done["executionId"])
    assert [child["status"] for child in tree["children"]] == ["completed"]


async def test_without_a_choice_all_active_departments_run(
    service: Service, model_server: ModelServer, catalogue: Catalogue
) -> None:
    await catalogue.edit_department("video", isActive=False)
    model_server.on("plan", nobody)

    done = await service.run_orchestration()

    ran = [line["department"] for line in done["output"]["report"]["departments"]]
    assert ran == [*(slug for slug in SIX if slug != "video"), DEPARTMENT]


async def test_the_head_of_production_leads_and_may_head_its_own_department_in_the_same_tree(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)

    done = await service.run_orchestration("production")

    tree = await tree_of(service, done["executionId"])
    assert (tree["agent"], tree["children"][0]["agent"]) == (LEADER, LEADER)
    assert tree["executionId"] != tree["children"][0]["executionId"]
    assert [child["department"] for child in tree["children"][0]["children"]] == ["production"]


async def test_a_long_report_is_handed_on_as_its_summary_and_its_beginning(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)
    model_server.on("report", f"# Salt\n\n## Summary\nThe gist.\n\n{'More. ' * 3000}")

    await service.run_orchestration("story", "audio")

    told = model_server.calls_for("plan")[1].text
    assert "Summary: The gist." in told
    assert "more characters]" in told
    assert len(told) < 12_000


@pytest.mark.parametrize(
    ("departments", "status", "code", "path"),
    [
        (["story", "nowhere"], 422, "validation-error", "departments.1"),
        (["story", "story"], 422, "validation-error", "departments.1"),
        ([], 422, "validation-error", "departments"),
        (["story", "video"], 409, "department-inactive", None),
    ],
)
async def test_departments_that_cannot_run_are_refused_at_once(
    service: Service, catalogue: Catalogue, departments: list[str], status: int, code: str, path: str | None
) -> None:
    await catalogue.edit_department("video", isActive=False)

    answer = await service.http.post(
        "/api/v1/orchestrations", json={"prompt": "Go.", "project": PROJECT, "departments": departments}
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [error["path"] for error in answer.json().get("errors", [])] == ([path] if path else [])


async def test_without_a_production_department_nobody_leads(service: Service, catalogue: Catalogue) -> None:
    await catalogue.edit_department("production", slug="elsewhere")

    answer = await service.http.post("/api/v1/orchestrations", json={"prompt": "Go.", "project": PROJECT})

    assert (answer.status_code, answer.json()["code"]) == (409, "orchestrator-missing")


async def test_an_accepted_orchestration_says_what_it_is(service: Service) -> None:
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


async def test_a_cancelled_orchestration_leaves_nothing_running(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    model_server.on("plan", nobody)
    model_server.on("work", lambda _: gate.passed("Too late."))
    body = {"prompt": "Go.", "project": PROJECT, "departments": ["story", "audio"]}
    execution_id = (await service.http.post("/api/v1/orchestrations", json=body)).json()["executionId"]
    await until(lambda: gate.waiting == 1)

    answer = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    nodes = nodes_of(await tree_of(service, execution_id))
    assert [(node["kind"], node["status"]) for node in nodes] == [
        ("orchestration", "cancelled"),
        ("department", "cancelled"),
        ("agent", "cancelled"),
    ]
    assert gapless(await all_events(service, execution_id))


async def test_a_failed_orchestration_that_is_tried_again_repeats_no_department(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)
    model_server.on("orchestrate", fault(400))
    failed = await service.run_orchestration("story", "audio")
    model_server.calls.clear()
    model_server.on("orchestrate", "## Summary\nOne film.")

    answer = await service.http.post(f"/api/v1/executions/{failed['executionId']}/retry", headers={"Prefer": "wait=30"})

    done = answer.json()
    assert (failed["status"], done["status"], done["retryOf"]) == ("failed", "completed", failed["executionId"])
    assert [call.purpose for call in model_server.calls] == ["orchestrate", "judge"]
    assert [line["status"] for line in done["output"]["report"]["departments"]] == ["completed"] * 2
    tree = await tree_of(service, done["executionId"])
    assert [len(child["children"]) for child in tree["children"]] == [1, 1]
    assert gapless(await all_events(service, done["executionId"]))


async def test_an_orchestration_is_started_once_for_an_idempotency_key(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", nobody)
    body = {"prompt": "Go.", "project": PROJECT, "departments": ["story"]}
    headers = {"Idempotency-Key": "orchestration-1"}

    first = await service.http.post("/api/v1/orchestrations", json=body, headers=headers)
    again = await service.http.post("/api/v1/orchestrations", json=body, headers=headers)
    other = await service.http.post("/api/v1/orchestrations", json=body | {"departments": ["audio"]}, headers=headers)

    assert first.json()["executionId"] == again.json()["executionId"]
    assert (again.headers["idempotency-replayed"], other.status_code) == ("true", 422)
    await finished(service, first.json()["executionId"])


@pytest.mark.usefixtures("lone_processes")
async def test_an_orchestration_that_was_taken_over_uses_what_had_ended(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Too late.") if speaker(call) == BOB and not gate.waiting else "The work is done."

    def plan(call: Call) -> Reply:
        return plan_of((ADA, "A", []), (BOB, "B", [ADA])) if speaker(call) == HEAD else nobody(call)

    model_server.on("plan", plan)
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "orchestration", departments=["story", DEPARTMENT])
    await until(lambda: gate.waiting == 1)

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    events = await all_events(service, execution_id)
    assert document["status"] == "completed"
    assert gapless(events)
    assert Counter(call.purpose for call in model_server.calls) == {
        "plan": 2,
        "work": 4,  # Bob's twice: the first had no answer yet
        "judge": 3 + 2 + 1,
        "review": 3,
        "report": 2,
        "orchestrate": 1,
    }
    assert stages(events) == [
        ("started", None, 0, 2),
        ("department-started", "story", 0, 2),
        ("department-completed", "story", 1, 2),
        ("department-started", DEPARTMENT, 1, 2),
        ("department-completed", DEPARTMENT, 2, 2),
        ("result", None, 2, 2),
        ("completed", None, 2, 2),
    ]
    assert [line["status"] for line in document["output"]["report"]["departments"]] == ["completed"] * 2


@pytest.mark.usefixtures("lone_processes")
async def test_a_department_that_can_no_longer_run_after_a_take_over_leaves_nothing_running(
    service: Service, model_server: ModelServer, catalogue: Catalogue, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Too late.") if speaker(call) == ADA else "The work is done."

    model_server.on("plan", nobody)
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "orchestration", departments=["story", DEPARTMENT])
    await until(lambda: gate.waiting == 1)

    await die(first)
    await catalogue.edit_department(DEPARTMENT, isActive=False)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    story, writers = document["output"]["report"]["departments"][::-1]
    assert (story["status"], writers["status"], writers["error"]["code"]) == (
        "completed",
        "failed",
        "department-inactive",
    )
    statuses = [node["status"] for node in nodes_of(await tree_of(service, execution_id))]
    assert sorted(statuses) == ["completed"] * 3 + ["failed"] * 2
    assert gapless(await all_events(service, execution_id))
