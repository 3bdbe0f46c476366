# pyright: reportPrivateUsage=false
"""Trying failed runs again, going on from finished ones, and requests that are sent again."""

import asyncio

import httpx
import pytest

from app.services.runs import retries
from app.services.runs.conversations import NO_RESULT, continued, with_results
from tests.conftest import PROJECT, Service
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, fault, plan_of
from tests.fixtures.waiting import wait_until
from tests.services.runs.conftest import (
    ADA,
    BOB,
    CYD,
    DEPARTMENT,
    HEAD,
    Catalogue,
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

BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}
ONE_CALL = {"input": 10, "output": 5, "total": 15, "cacheRead": 0, "cacheWrite": 0}


async def retry(service: Service, execution_id: str, query: str = "", **headers: str) -> httpx.Response:
    return await service.http.post(f"/api/v1/executions/{execution_id}/retry{query}", headers=headers)


async def test_a_retry_goes_on_from_the_last_saved_step_and_pays_for_the_new_calls_alone(
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


async def test_a_retry_from_the_start_does_everything_anew(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1})), fault(500), "Done."))
    failed = await service.run_agent(ADA, judge=False)

    done = (await retry(service, failed["executionId"], "?from=start", Prefer="wait=20")).json()

    assert types_of(await all_events(service, done["executionId"])) == [
        "agent-start",
        "agent-response",
        "agent-complete",
    ]
    assert model_server.calls[0].messages == model_server.calls[2].messages


async def test_a_retried_department_uses_what_was_finished_and_goes_on_with_what_was_not(
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
    service: Service, model_server: ModelServer, catalogue: Catalogue
) -> None:
    model_server.on("plan", plan_of((ADA, "A", [])))
    model_server.on("report", fault(500))
    failed = await service.run_department(DEPARTMENT)
    model_server.on("report", "## Summary\nAll is well.")
    await catalogue.edit_agent(HEAD, isDepartmentHead=False)
    await catalogue.edit_agent(CYD, isDepartmentHead=True)

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
    copy = retries.SecondAttempt._copy
    copied = 0

    async def stop_midway(self: retries.SecondAttempt, event: Json) -> None:
        nonlocal copied
        copied += 1
        if copied == 6:
            await self.tree.log.committed()
            await asyncio.Event().wait()
        await copy(self, event)

    monkeypatch.setattr(retries.SecondAttempt, "_copy", stop_midway)
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


async def test_what_cannot_be_tried_again_says_why(service: Service, model_server: ModelServer) -> None:
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


async def test_a_run_goes_on_from_the_conversation_of_another(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(completion("Hm.", ("echo", {"n": 1})), "First.", "Second."))
    first = await service.run_agent(ADA, prompt="One?", judge=False)

    second = await service.run_agent(ADA, prompt="Two?", judge=False, previousExecutionId=first["executionId"])

    asked = model_server.calls[-1].messages
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert asked[1:5] == [
        {name: value for name, value in message.items() if value is not None} | {"content": message["content"]}
        for message in first["runState"]["messages"][1:]
    ]
    assert (second["previousExecutionId"], len(second["runState"]["messages"])) == (first["executionId"], 7)


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


async def test_requests_with_one_idempotency_key_make_one_run(service: Service, model_server: ModelServer) -> None:
    path = f"/api/v1/agents/{ADA}/runs"
    headers = {"Idempotency-Key": "the-same"}

    async def post(place: int) -> str | None:
        if place % 3:
            answer = await service.http.post(path, json=BODY, headers=headers)
            assert answer.status_code == 202, answer.text
            return answer.json()["executionId"]
        try:
            async with httpx.AsyncClient(base_url=service.url, headers=service.http.headers, timeout=0.05) as impatient:
                await impatient.post(path, json=BODY, headers=headers)
        except httpx.TimeoutException:
            return None
        return None

    ids = await asyncio.gather(*map(post, range(100)))
    execution_id = next(one for one in ids if one)
    await finished(service, execution_id)
    replayed = await service.http.post(path, json=BODY, headers={**headers, "Prefer": "wait=5"})

    assert {one for one in ids if one} == {execution_id}
    assert len(model_server.calls) == 1
    assert (replayed.status_code, replayed.json()["status"]) == (200, "completed")
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.json()["executionId"] == execution_id


async def test_an_idempotency_key_belongs_to_one_body_one_path_and_one_caller(
    service: Service, model_server: ModelServer
) -> None:
    key = (await service.http.post("/api/v1/api-keys", json={"name": "other", "role": "runner"})).json()["key"]

    async def post(agent: str, body: Json, **headers: str) -> httpx.Response:
        given = {"Idempotency-Key": "mine", **headers}
        return await service.http.post(f"/api/v1/agents/{agent}/runs", json=body, headers=given)

    first = await post(ADA, BODY)
    same = await post(ADA, dict(reversed(BODY.items())))
    other_body = await post(ADA, BODY | {"prompt": "Other."})
    other_path = await post(BOB, BODY)
    other_caller = await post(ADA, BODY, Authorization=f"Bearer {key}")

    assert "idempotency-replayed" not in first.headers
    assert same.json()["executionId"] == first.json()["executionId"]
    assert (other_body.status_code, other_body.json()["code"]) == (422, "idempotency-key-reused")
    ids = {answer.json()["executionId"] for answer in (first, other_path, other_caller)}
    assert len(ids) == 3
    for one in ids:
        await finished(service, one)


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "tab\tbed"])
async def test_an_idempotency_key_that_is_none_is_refused(service: Service, key: str) -> None:
    answer = await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY, headers={"Idempotency-Key": key})

    assert answer.status_code == 422


async def test_a_finished_run_is_deleted_with_all_that_belongs_to_it(
    service: Service, model_server: ModelServer
) -> None:
    done = await service.run_department(DEPARTMENT)
    root_id = done["executionId"]
    child = (await stored_tree(service, root_id))[ADA]["executionId"]

    refused = await service.http.delete(f"/api/v1/executions/{child}")
    deleted = await service.http.delete(f"/api/v1/executions/{root_id}")
    again = await service.http.delete(f"/api/v1/executions/{root_id}")

    assert (refused.status_code, refused.json()["code"]) == (409, "execution-not-root")
    assert (deleted.status_code, deleted.content, again.status_code) == (204, b"", 404)
    executions = service.services.database["agent-executions"]
    assert await executions.count_documents({"rootExecutionId": root_id}) == 0


async def test_a_running_execution_is_not_deleted(service: Service, model_server: ModelServer) -> None:
    released = asyncio.Event()

    async def work(_: Call) -> Reply:
        await released.wait()
        return "Done."

    model_server.on("work", work)
    execution_id = (await service.http.post(f"/api/v1/agents/{ADA}/runs", json=BODY)).json()["executionId"]

    answer = await service.http.delete(f"/api/v1/executions/{execution_id}")
    released.set()
    document = await finished(service, execution_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "execution-unfinished")
    assert document["status"] == (await stored(service, execution_id))["status"] == "completed"
