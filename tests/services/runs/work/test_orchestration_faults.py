"""Orchestrations that go wrong, are stopped, or lose their process: what had ended is kept, and nothing runs on."""

from collections import Counter

import pytest

from tests.fixtures.model_server import Call, ModelServer, Reply, fault, one_does_all, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    Catalog,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    gapless,
    nodes_of,
    stages,
    tree_of,
    until,
)
from tests.fixtures.services import PROJECT, Service


@pytest.mark.slow
async def test_a_department_that_fails_is_reported_and_the_rest_continues(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)
    model_server.on("report", lambda call: fault(400) if call.is_from("story-head-001") else "Fine.")

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


@pytest.mark.slow
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
    model_server.on("plan", one_does_all)
    model_server.on("orchestrate", fault(400))

    done = await service.run_orchestration("story")

    assert (done["status"], done["error"]["code"]) == ("failed", "model-request-refused")
    tree = await tree_of(service, done["executionId"])
    assert [child["status"] for child in tree["children"]] == ["completed"]


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
    service: Service, catalog: Catalog, departments: list[str], status: int, code: str, path: str | None
) -> None:
    await catalog.edit_department("video", isActive=False)

    answer = await service.http.post(
        "/api/v1/orchestrations", json={"prompt": "Go.", "project": PROJECT, "departments": departments}
    )

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [error["path"] for error in answer.json().get("errors", [])] == ([path] if path else [])


async def test_without_a_production_department_an_orchestration_is_refused(service: Service, catalog: Catalog) -> None:
    await catalog.edit_department("production", slug="elsewhere")

    answer = await service.http.post("/api/v1/orchestrations", json={"prompt": "Go.", "project": PROJECT})

    assert (answer.status_code, answer.json()["code"]) == (409, "orchestrator-missing")


async def test_a_cancelled_orchestration_leaves_nothing_running(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    model_server.on("plan", one_does_all)
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


@pytest.mark.slow
async def test_a_failed_orchestration_that_is_tried_again_repeats_no_department(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)
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


@pytest.mark.slow
@pytest.mark.usefixtures("lone_processes")
async def test_an_orchestration_that_was_taken_over_uses_what_had_ended(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Too late.") if call.is_from(BOB) and not gate.waiting else "The work is done."

    def plan(call: Call) -> Reply:
        return plan_of((ADA, "A", []), (BOB, "B", [ADA])) if call.is_from(HEAD) else one_does_all(call)

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


@pytest.mark.slow
@pytest.mark.usefixtures("lone_processes")
async def test_a_department_that_can_no_longer_run_after_a_take_over_leaves_nothing_running(
    service: Service, model_server: ModelServer, catalog: Catalog, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Too late.") if call.is_from(ADA) else "The work is done."

    model_server.on("plan", one_does_all)
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "orchestration", departments=["story", DEPARTMENT])
    await until(lambda: gate.waiting == 1)

    await die(first)
    await catalog.edit_department(DEPARTMENT, slug="renamed")
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    story, writers = document["output"]["report"]["departments"][::-1]
    assert (story["status"], writers["status"], writers["error"]["code"]) == (
        "completed",
        "failed",
        "department-not-found",
    )
    statuses = [node["status"] for node in nodes_of(await tree_of(service, execution_id))]
    assert sorted(statuses) == ["completed"] * 3 + ["failed"] * 2
    assert gapless(await all_events(service, execution_id))
