# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""The ownership of a run: one process at a time, even if others died, stopped, or woke up too late."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bson import ObjectId, json_util
from pymongo.errors import NetworkTimeout

from app.events.stream.bus import Moved
from app.models.agent_execution import AgentExecution
from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    EAGER,
    HEAD,
    TERMINAL,
    Catalog,
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
from tests.fixtures.services import Service

pytestmark = pytest.mark.usefixtures("lone_processes")


async def test_a_zombie_s_later_writes_store_nothing_and_it_stops(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return "The heir's." if gate.waiting else await gate.passed("The zombie's.")

    model_server.on("work", work)
    zombie = await start_process()
    execution_id = await accept(service, zombie, "agent")
    await until(lambda: gate.waiting == 1)
    await stop_lease_renewal(zombie)
    await expire(service, execution_id)
    await start_process()
    ended = await finished(service, execution_id)

    with service.services.bus.follow(execution_id) as follower:
        gate.open()
        await until(lambda: not zombie.owned)

        assert all(isinstance(item, Moved) for item in follower._buffer), "nothing was published"
    assert await stored(service, execution_id) == ended
    assert ended["output"]["text"] == "The heir's."


async def test_a_zombie_adds_no_child_to_the_tree(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def plan(_: Call) -> Reply:
        return plan_of((ADA, "A", [])) if gate.waiting else await gate.passed(plan_of((BOB, "B", [])))

    model_server.on("plan", plan)
    zombie = await start_process()
    execution_id = await accept(service, zombie, "department")
    await until(lambda: gate.waiting == 1)
    await stop_lease_renewal(zombie)
    await expire(service, execution_id)
    await start_process()
    await finished(service, execution_id)

    gate.open()
    await until(lambda: not zombie.owned)

    assert set(await stored_tree(service, execution_id)) == {HEAD, ADA}
    assert gapless(await all_events(service, execution_id))


async def test_one_of_two_processes_takes_a_lost_run(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return "Done." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await until(lambda: gate.waiting == 1)
    await die(first)
    await expire(service, execution_id)

    await asyncio.gather(start_process(), start_process(), start_process())
    document = await finished(service, execution_id)

    assert (document["takeovers"], document["fence"]) == (1, 2)
    assert len(of_type(await all_events(service, execution_id), "agent-retry")) == 1
    assert len(model_server.calls_for("work")) == 2


async def test_a_live_process_keeps_its_runs(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await until(lambda: gate.waiting == 1)
    lease = (await stored(service, execution_id))["lease"]

    await start_process()
    await stored_once(service, execution_id, lambda document: document["lease"]["until"] > lease["until"])
    gate.open()
    document = await finished(service, execution_id)

    assert (document["status"], document["takeovers"], document["fence"]) == ("completed", 0, 1)
    assert len(model_server.calls_for("work")) == 1


@pytest.mark.slow
async def test_a_process_that_cannot_renew_stops_its_runs_before_another_can_take_them(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(_: Call) -> Reply:
        return "The heir's." if gate.waiting else await gate.passed("Lost.")

    async def no_answer(*_: object) -> None:
        raise NetworkTimeout

    model_server.on("work", work)
    cut_off = await start_process(timings=replace(EAGER, give_up_seconds=1.0))
    execution_id = await accept(service, cut_off, "agent")
    await until(lambda: gate.waiting == 1)
    monkeypatch.setattr(cut_off.leases, "renew", no_answer)

    await until(lambda: not cut_off.owned)

    assert (await stored(service, execution_id))["lease"]["until"] > cut_off.leases.server_now()
    assert cut_off.dispatcher.room == cut_off.limits.max_concurrent
    assert not cut_off.is_healthy
    monkeypatch.undo()
    await expire(service, execution_id)
    await start_process()
    assert (await finished(service, execution_id))["output"]["text"] == "The heir's."


async def test_a_process_that_renews_too_late_stops_its_runs_too(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
) -> None:
    async def work(_: Call) -> Reply:
        return "The heir's." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    timings = replace(EAGER, renew_every_seconds=0.2, watch_every_seconds=60.0)  # only a renewal can notice
    slept = await start_process(timings=timings)
    execution_id = await accept(service, slept, "agent")
    await until(lambda: gate.waiting == 1)

    renewed = slept.lease_renewer._renewed
    await until(lambda: slept.lease_renewer._renewed > renewed)
    slept.lease_renewer._renewed -= timings.give_up_seconds
    await until(lambda: not slept.owned and slept.lease_renewer.holds)

    await expire(service, execution_id)
    assert (await finished(service, execution_id))["output"]["text"] == "The heir's."


async def test_a_process_that_stops_in_good_order_hands_its_runs_over_at_no_cost(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        if not call.tool_results:
            return completion(None, ("echo", {}))
        return "Done." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await until(lambda: gate.waiting == 1)

    before = first.leases.server_now()
    await first.stop(grace_seconds=0.05)
    handed_over = await stored(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    assert (handed_over["lease"]["owner"], handed_over["status"]) == ("", "running")
    assert handed_over["lease"]["until"] < before  # a process whose clock is behind sees it at once too
    assert (document["status"], document["takeovers"]) == ("completed", 0)
    assert of_type(await all_events(service, execution_id), "agent-retry")[0]["attempt"] == 1
    assert len(model_server.calls_for("work")) == 3


async def test_a_process_that_stops_lets_short_work_end(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await until(lambda: gate.waiting == 1)

    stopping = asyncio.create_task(first.stop(grace_seconds=10))
    gate.open()
    await stopping

    document = await stored(service, execution_id)
    assert (document["status"], document["fence"], document["lease"]) == ("completed", 1, None)


@pytest.mark.parametrize(("takeovers", "status"), [(2, "completed"), (3, "failed")])
async def test_a_run_that_killed_three_processes_after_its_first_is_not_tried_a_fifth_time(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    takeovers: int,
    status: str,
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Lost.") if call.is_from(BOB) and not gate.waiting else "The work is done."

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "department")
    await until(lambda: gate.waiting == 1)
    await die(first)
    model_server.calls.clear()
    await expire(service, execution_id, takeovers=takeovers)

    await start_process()
    document = await finished(service, execution_id)

    assert document["status"] == status
    if status == "failed":
        tree = await stored_tree(service, execution_id)
        assert {agent: raw["status"] for agent, raw in tree.items()} == {
            HEAD: "failed",
            ADA: "completed",
            BOB: "failed",
        }
        assert document["error"]["code"] == tree[BOB]["error"]["code"] == "worker-lost"
        assert document["lease"] is None
        assert document["tokenUsage"]["total"] == 15
        assert [message["role"] for message in document["runState"]["messages"]] == ["user", "assistant"]
        errors = of_type(await all_events(service, execution_id), "agent-error")
        assert [event["agentId"] for event in errors] == [BOB, HEAD]
        assert model_server.calls == []


async def test_an_execution_that_another_program_created_is_never_run(
    service: Service, model_server: ModelServer, start_process: StartProcess, payload_documents: Json
) -> None:
    executions = service.services.database[AgentExecution.get_collection_name()]
    documents = json_util.loads(json.dumps(payload_documents["documents"]["agent-executions"]))
    await executions.insert_many(documents)
    ids = [document["executionId"] for document in documents]
    before = [await stored(service, execution_id) for execution_id in ids]
    engine = await start_process()

    await engine.dispatcher.take_waiting(64)

    assert [await stored(service, execution_id) for execution_id in ids] == before
    assert "pending" in {document["status"] for document in before}
    assert model_server.calls == []
    await executions.delete_many({"_id": {"$in": [document["_id"] for document in documents]}})


async def test_a_damaged_document_does_not_stop_a_process(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    executions = service.services.database[AgentExecution.get_collection_name()]
    broken = {"executionId": "broken", "rootExecutionId": "broken", "status": "odd", "fence": 1, "takeovers": 0}
    await executions.insert_one(broken | {"lease": {"owner": "dead", "until": datetime(2019, 1, 1, tzinfo=UTC)}})
    first = await start_process(RunLimits(max_concurrent=0))
    execution_id = await accept(service, first, "agent")
    await die(first)
    await expire(service, execution_id)

    engine = await start_process()

    assert (await finished(service, execution_id))["status"] == "completed"
    assert engine.is_healthy
    await executions.delete_one({"executionId": "broken"})


@pytest.mark.parametrize(
    ("agent", "change", "code"),
    [
        (HEAD, {"isActive": False}, None),
        (HEAD, {"agentId": "renamed-001"}, None),
        (BOB, {"isActive": False}, None),
        (BOB, {"agentId": "renamed-001"}, "agent-not-found"),
    ],
)
async def test_a_recovered_run_uses_the_current_catalog_active_or_not(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    catalog: Catalog,
    agent: str,
    change: Json,
    code: str | None,
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Lost.") if call.is_from(BOB) and not gate.waiting else "The work is done."

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "department")
    await until(lambda: gate.waiting == 1)
    await die(first)
    await catalog.edit_agent(agent, **change)
    await expire(service, execution_id)

    await start_process()
    document = await finished(service, execution_id)

    assert document.get("error", {}).get("code") == code
    executions = service.services.database[AgentExecution.get_collection_name()]
    left = [raw["status"] async for raw in executions.find({"rootExecutionId": execution_id})]
    assert len(left) == 3
    assert set(left) <= set(TERMINAL)


async def test_a_run_whose_agent_is_gone_fails_and_leaves_nothing_running(
    service: Service, start_process: StartProcess, catalog: Catalog
) -> None:
    first = await start_process(RunLimits(max_concurrent=0))
    execution_id = await accept(service, first, "agent")
    await die(first)
    await expire(service, execution_id, agent=ObjectId())

    await start_process()
    document = await finished(service, execution_id)

    assert (document["status"], document["error"]["code"]) == ("failed", "agent-not-found")
