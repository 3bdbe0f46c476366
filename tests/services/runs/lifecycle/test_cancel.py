# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""Cancelling runs: wherever they run and whatever they do, the whole tree stops, and nothing begins afterwards."""

import asyncio
from dataclasses import replace

import pytest

from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    TERMINAL,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    gapless,
    of_type,
    stop_lease_renewal,
    stored,
    stored_once,
    stored_tree,
    until,
)
from tests.fixtures.services import PROJECT, Service

BODY = {"prompt": "Write.", "project": PROJECT, "judge": False}


async def start(service: Service, path: str = f"agents/{ADA}") -> str:
    answer = await service.http.post(f"/api/v1/{path}/runs", json=BODY)
    assert answer.status_code == 202, answer.text
    return answer.json()["executionId"]


async def cancel(service: Service, execution_id: str) -> tuple[int, str]:
    """The status of the answer, and that of the execution in it or the problem's code."""
    answer = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")
    body = answer.json()
    return answer.status_code, body.get("code") or body["status"]


async def test_cancelling_a_department_ends_its_whole_tree(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return "Ada's." if call.is_from(ADA) else await gate.passed("Too late.")

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    execution_id = await start(service, f"departments/{DEPARTMENT}")
    await until(lambda: gate.waiting == 1)

    answer = await cancel(service, execution_id)

    assert answer == (202, "cancelled")
    tree = await stored_tree(service, execution_id)
    assert {agent: raw["status"] for agent, raw in tree.items()} == {
        HEAD: "cancelled",
        ADA: "completed",
        BOB: "cancelled",
    }
    events = await all_events(service, execution_id)
    assert gapless(events)
    assert [event["agentId"] for event in of_type(events, "agent-cancelled")] == [BOB, HEAD]
    root = tree[HEAD]
    assert (root["stopReason"], root["lease"]) == ("cancelled", None)
    assert root["completedAt"]
    assert [(message["role"], message["content"]) for message in root["runState"]["messages"]] == [
        ("user", "Write."),
        ("assistant", root["runState"]["messages"][1]["plan"]["rationale"]),
    ]
    assert [message["role"] for message in tree[BOB]["runState"]["messages"]] == ["user"]
    assert root["tokenUsage"]["total"] == 15
    calls = len(model_server.calls)
    gate.open()
    assert await cancel(service, execution_id) == (409, "execution-already-finished")
    assert len(model_server.calls) == calls


async def test_a_specialist_s_id_cancels_the_run_that_it_belongs_to(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("plan", plan_of((ADA, "A", [])))
    model_server.on("work", work)
    execution_id = await start(service, f"departments/{DEPARTMENT}")
    await until(lambda: gate.waiting == 1)
    child = (await stored_tree(service, execution_id))[ADA]["executionId"]

    assert await cancel(service, child) == (202, "cancelled")

    assert (await stored(service, execution_id))["status"] == "cancelled"


async def test_a_sandbox_in_which_a_cancelled_tool_runs_is_killed(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", completion(None, ("hang", {})))
    sandbox = service.services.engine.context.tools.sandbox
    execution_id = await start(service)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 2)
    before = set(sandbox.worker_pids)

    assert await cancel(service, execution_id) == (202, "cancelled")

    await until(lambda: not before <= set(sandbox.worker_pids))
    assert len(model_server.calls) == 1


@pytest.mark.long
async def test_of_a_cancel_and_a_completion_one_wins_and_nothing_begins_a_second_later(
    service: Service, model_server: ModelServer
) -> None:
    clock = asyncio.get_running_loop().time
    asked: list[tuple[str, float]] = []
    stopped: dict[str, float] = {}

    def work(call: Call) -> Reply:
        asked.append((call.execution_id, clock()))
        return "Done." if call.tool_results else completion("Hm.", ("echo", {"n": 1}))

    model_server.on("work", work)

    async def cancel_later(place: int) -> tuple[str, tuple[int, str]]:
        execution_id = await start(service)
        await asyncio.sleep(place * 0.01)
        answer = await cancel(service, execution_id)
        stopped[execution_id] = clock()
        return execution_id, answer

    answers = await asyncio.gather(*map(cancel_later, range(50)))

    ends = set[str]()
    for execution_id, answer in answers:
        document = await finished(service, execution_id)
        ends.add(document["status"])
        events = await all_events(service, execution_id)
        assert gapless(events)
        endings = [event["type"] for event in events if event["type"] in ("agent-complete", "agent-cancelled")]
        if document["status"] == "cancelled":
            assert (answer, endings) == ((202, "cancelled"), ["agent-cancelled"])
        else:
            assert (answer, endings) == ((409, "execution-already-finished"), ["agent-complete"])
    assert ends <= {"cancelled", "completed"}
    assert "cancelled" in ends
    assert all(moment < stopped[execution_id] + 1 for execution_id, moment in asked)


async def test_a_cancelled_run_keeps_its_prompt_and_the_earlier_conversation(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        if call.messages[-1]["role"] == "tool":
            return await gate.passed("Too late.")
        return completion("Let me see.", ("echo", {"n": 1}))

    model_server.on("work", "The first answer.")
    first = await service.run_agent(ADA, prompt="One?", judge=False)
    model_server.on("work", work)
    asked = BODY | {"prompt": "Two?", "params": {"tone": "dry"}, "previousExecutionId": first["executionId"]}
    execution_id = (await service.http.post(f"/api/v1/agents/{ADA}/runs", json=asked)).json()["executionId"]
    await until(lambda: gate.waiting == 1)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 4)  # writes overlap with calls
    assert await cancel(service, execution_id) == (202, "cancelled")

    model_server.on("work", "The third answer.")
    await service.run_agent(ADA, prompt="Three?", judge=False, previousExecutionId=execution_id)

    before, last = model_server.calls[-2].messages, model_server.calls[-1].messages
    assert [message["role"] for message in before] == ["system", "user", "assistant", "user", "assistant", "tool"]
    assert (before[1]["content"], "dry" in before[3]["content"]) == ("One?", True)
    assert last == [*before, {"role": "user", "content": "Three?"}]
    sent = before[-1]["content"]
    assert '{"n":1}' in sent
    kept = [*before[1:-1], before[-1] | {"content": '{"n":1}'}]  # a result is fenced when it is sent
    assert (await stored(service, execution_id))["runState"]["messages"] == kept
    prompts = (await service.http.get(f"/api/v1/executions/{execution_id}/prompts")).json()
    assert [(call["purpose"], call["source"]) for call in prompts["calls"]] == [("work", "missing")]


@pytest.mark.usefixtures("lone_processes")
async def test_a_run_of_another_process_stops_within_a_second(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("work", work)
    owner = await start_process()
    execution_id = await accept(service, owner, "agent")
    await until(lambda: gate.waiting == 1)

    assert await cancel(service, execution_id) == (202, "cancelled")

    async with asyncio.timeout(1):
        while execution_id in owner.owned:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    gate.open()
    assert len(model_server.calls) == 1
    assert (await stored(service, execution_id))["status"] == "cancelled"


@pytest.mark.usefixtures("lone_processes")
async def test_a_run_that_waits_in_the_queue_is_cancelled_before_it_begins(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    full = await start_process(RunLimits(max_concurrent=0))
    execution_id = await accept(service, full, "agent")

    assert await cancel(service, execution_id) == (202, "cancelled")

    assert [event["type"] for event in await all_events(service, execution_id)] == ["agent-cancelled"]
    assert model_server.calls == []


@pytest.mark.usefixtures("lone_processes")
async def test_a_cancel_whose_process_dies_is_carried_out_by_another(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("work", work)
    owner, canceller = await start_process(), await start_process()
    execution_id = await accept(service, owner, "agent")
    await until(lambda: gate.waiting == 1)
    await stop_lease_renewal(canceller)
    assert await canceller.leases.cancel(execution_id) is not None
    await die(canceller)
    engine = service.services.engine
    monkeypatch.setattr(engine, "timings", replace(engine.timings, cancel_seconds=0.1))
    assert (await cancel(service, execution_id))[0] == 202
    await expire(service, execution_id)

    document = await finished(service, execution_id)

    assert (document["status"], document["stopReason"]) == ("cancelled", "cancelled")
    assert len(model_server.calls) == 1


async def test_a_refused_cancel_gives_the_reason(service: Service) -> None:
    executions = service.services.database["agent-executions"]
    await executions.insert_one({"executionId": "theirs", "status": "running", "prompt": "x", "events": []})
    done = await service.run_agent(ADA)

    answers = [await cancel(service, one) for one in ("nothing", "theirs", done["executionId"])]
    await executions.delete_one({"executionId": "theirs"})

    assert answers == [
        (404, "execution-not-found"),
        (409, "execution-foreign"),
        (409, "execution-already-finished"),
    ]
    assert done["status"] in TERMINAL
