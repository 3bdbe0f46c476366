# pyright: reportPrivateUsage=false
"""Trying failed runs again: from their last saved step, or from the start."""

import asyncio

import httpx
import pytest

from app.services.runs.work import checkpoint_copier
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, fault, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    CYD,
    DEPARTMENT,
    HEAD,
    Catalog,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    first_then,
    gapless,
    nodes_of,
    of_type,
    stored,
    stored_once,
    stored_tree,
    tree_of,
    types_of,
)
from tests.fixtures.services import Service
from tests.fixtures.waiting import wait_until

ONE_CALL = {"input": 10, "output": 5, "total": 15, "cacheRead": 0, "cacheWrite": 0}


async def retry(service: Service, execution_id: str, query: str = "", **headers: str) -> httpx.Response:
    return await service.http.post(f"/api/v1/executions/{execution_id}/retry{query}", headers=headers)


async def test_a_retry_continues_from_the_last_saved_step_and_pays_only_for_the_new_calls(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1})), fault(500), "Done."))
    failed = await service.run_agent(ADA, judge=False)

    answer = await retry(service, failed["executionId"], Prefer="wait=20")
    done = answer.json()

    assert (failed["status"], answer.status_code, done["status"]) == ("failed", 200, "completed")
    assert (done["retryOf"], done["output"]["text"]) == (failed["executionId"], "Done.")
    assert done["tokenUsage"] == ONE_CALL
    events = await all_events(service, done["executionId"])
    assert types_of(events) == [
        "agent-start",
        "agent-thinking",
        "tool-call",
        "tool-result",
        "agent-retry",
        "agent-response",
        "agent-complete",
    ]
    assert gapless(events)
    assert {event["executionId"] for event in events} == {event["rootExecutionId"] for event in events}
    assert (events[4]["reason"], events[4]["attempt"]) == ("retried", 1)
    assert len(model_server.calls) == 3
    assert model_server.calls[1].messages == model_server.calls[2].messages
    assert (await service.http.get(f"/api/v1/executions/{failed['executionId']}")).json()["status"] == "failed"


async def test_a_retry_from_the_start_does_everything_again(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1})), fault(500), "Done."))
    failed = await service.run_agent(ADA, judge=False)

    done = (await retry(service, failed["executionId"], "?from=start", Prefer="wait=20")).json()

    assert types_of(await all_events(service, done["executionId"])) == [
        "agent-start",
        "agent-response",
        "agent-complete",
    ]
    assert model_server.calls[0].messages == model_server.calls[2].messages


async def test_a_retried_department_uses_finished_work_and_continues_unfinished_work(
    service: Service, model_server: ModelServer
) -> None:
    def work(call: Call) -> Reply:
        if call.is_from(BOB) and not call.tool_results:
            return completion(None, ("echo", {"n": 1}))
        return "The work is done."

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    model_server.on("report", fault(500))
    failed = await service.run_department(DEPARTMENT)
    model_server.calls.clear()
    model_server.on("report", "## Summary\nAll is well.")

    done = (await retry(service, failed["executionId"], Prefer="wait=20")).json()

    assert (failed["status"], done["status"]) == ("failed", "completed")
    assert [call.purpose for call in model_server.calls] == ["report", "judge"]
    tree = await stored_tree(service, done["executionId"])
    old = await stored_tree(service, failed["executionId"])
    assert set(tree) == {HEAD, ADA, BOB}
    for agent in (ADA, BOB):
        assert tree[agent]["retryOf"] == old[agent]["executionId"]
        assert tree[agent]["parentExecutionId"] == done["executionId"]
        kept = ("status", "output", "runState", "qualityScore", "reviewStatus", "stopReason")
        assert [tree[agent].get(name) for name in kept] == [old[agent].get(name) for name in kept]
        assert tree[agent]["tokenUsage"]["total"] == 0
    events = await all_events(service, done["executionId"])
    assert gapless(events)
    assert {event["executionId"] for event in events} == {raw["executionId"] for raw in tree.values()}


@pytest.mark.slow
async def test_a_retry_counts_the_tool_calls_that_it_makes_and_no_copied_ones(
    service: Service, model_server: ModelServer
) -> None:
    async def calls_counted() -> int:
        executions = service.services.database["agent-executions"]

        async def all_counted() -> bool:
            return await executions.count_documents({"uncounted": {"$exists": True}}) == 0

        await wait_until(all_counted, seconds=10)
        tool = await service.services.database["custom-tools"].find_one({"toolName": "echo"})
        return (tool or {}).get("totalExecutions", 0)

    before = await calls_counted()
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1}), ("echo", {"n": 2})), fault(500)))
    failed = await service.run_agent(ADA, judge=False)
    between = await calls_counted()
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 3})), "Done."))

    done = (await retry(service, failed["executionId"], Prefer="wait=20")).json()

    assert (failed["status"], done["status"]) == ("failed", "completed")
    assert (between - before, await calls_counted() - between) == (2, 1)
    events = await all_events(service, done["executionId"])
    calls = of_type(events, "tool-call")
    assert [(call["input"]["n"], call.get("copied", False)) for call in calls] == [(1, True), (2, True), (3, False)]


@pytest.mark.slow
async def test_a_retried_orchestration_names_its_own_executions_and_keeps_how_they_ended(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", lambda call: plan_of((ADA, "A", []), (BOB, "B", [])) if call.is_from(HEAD) else "No plan.")
    model_server.on("work", lambda call: fault(400) if call.is_from(BOB) else "The work is done.")
    model_server.on("orchestrate", fault(500))
    failed = await service.run_orchestration("audio", DEPARTMENT)
    model_server.on("orchestrate", "## Summary\nAll is well.")
    model_server.calls.clear()

    done = (await retry(service, failed["executionId"], Prefer="wait=20")).json()

    assert (failed["status"], done["status"]) == ("failed", "completed")
    assert [call.purpose for call in model_server.calls] == ["orchestrate", "judge"]
    assert "exec_" not in str([call.messages for call in model_server.calls])
    tree = await tree_of(service, done["executionId"])
    own = {node["executionId"] for node in nodes_of(tree)}
    old = {node["executionId"] for node in nodes_of(await tree_of(service, failed["executionId"]))}
    assert [line["executionId"] for line in done["output"]["report"]["departments"]] == [
        child["executionId"] for child in tree["children"]
    ]
    for child in tree["children"]:
        document = await stored(service, child["executionId"])
        lines = document["output"]["report"]["specialists"]
        assert {line["executionId"]: line["status"] for line in lines} == {
            node["executionId"]: node["status"] for node in child["children"]
        }
    bob = (await stored_tree(service, done["executionId"]))[BOB]
    assert (bob["status"], bob["error"]["code"]) == ("failed", "model-request-refused")
    events = await all_events(service, done["executionId"])
    assert not any(identity in str(events) for identity in old)
    told = [event["departmentExecutionId"] for event in events if "departmentExecutionId" in event]
    assert len(told) == 4
    assert set(told) < own


async def test_a_retried_department_is_led_by_its_present_head(
    service: Service, model_server: ModelServer, catalog: Catalog
) -> None:
    model_server.on("plan", plan_of((ADA, "A", [])))
    model_server.on("report", fault(500))
    failed = await service.run_department(DEPARTMENT)
    model_server.on("report", "## Summary\nAll is well.")
    await catalog.edit_agent(HEAD, isDepartmentHead=False)
    await catalog.edit_agent(CYD, isDepartmentHead=True)

    done = (await retry(service, failed["executionId"], Prefer="wait=20")).json()
    anew = (await retry(service, failed["executionId"], "?from=start", Prefer="wait=20")).json()

    assert [(run["status"], run["agent"]) for run in (failed, done, anew)] == [
        ("failed", HEAD),
        ("completed", CYD),
        ("completed", CYD),
    ]
    assert model_server.calls_for("report")[-1].is_from(CYD)


@pytest.mark.usefixtures("lone_processes")
async def test_a_retry_whose_process_dies_midway_in_the_copying_is_complete_all_the_same(
    service: Service, model_server: ModelServer, start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [])))
    model_server.on("report", fault(500))
    first = await start_process()
    failed = await accept(service, first, "department")
    await finished(service, failed)
    kept = [kind for kind in types_of(await all_events(service, failed)) if kind != "agent-error"]
    model_server.on("report", "## Summary\nAll is well.")
    model_server.calls.clear()
    copy = checkpoint_copier.CheckpointCopier._copy
    copied = 0

    async def stop_midway(self: checkpoint_copier.CheckpointCopier, event: Json) -> None:
        nonlocal copied
        copied += 1
        if copied == 6:
            await self.tree.log.committed()
            await asyncio.Event().wait()
        await copy(self, event)

    monkeypatch.setattr(checkpoint_copier.CheckpointCopier, "_copy", stop_midway)
    again = (await retry(service, failed)).json()["executionId"]
    await stored_once(service, again, lambda document: document["lastSeq"] > 0)
    async with asyncio.timeout(10):
        while copied < 6:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    await die(service.services.engine)
    await expire(service, again)
    document = await finished(service, again)

    events = await all_events(service, again)
    assert document["status"] == "completed"
    assert gapless(events)
    begin = [kind for kind in types_of(events) if kind != "agent-retry"][: len(kept)]
    assert begin == kept
    assert [event["reason"] for event in of_type(events, "agent-retry")] == ["taken-over", "retried"]
    assert [call.purpose for call in model_server.calls] == ["report", "judge"]
    assert set(await stored_tree(service, again)) == {HEAD, ADA, BOB}


async def test_a_refused_retry_gives_the_reason(service: Service, model_server: ModelServer) -> None:
    done = await service.run_department(DEPARTMENT)
    child = (await stored_tree(service, done["executionId"]))[ADA]["executionId"]

    answers = [await retry(service, one) for one in (done["executionId"], child, "nothing")]
    wrong = await retry(service, done["executionId"], "?from=nowhere")

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (409, "execution-not-failed"),
        (409, "execution-not-root"),
        (404, "execution-not-found"),
    ]
    assert wrong.status_code == 422
