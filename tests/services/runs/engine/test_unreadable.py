# pyright: reportPrivateUsage=false
"""Trees whose stored form is damaged: tried as often as those that kill their processes, then ended; others run."""

import pytest

from app.database.connection import Raw
from app.models.agent_execution import AgentExecution
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.tree_runner import MAX_TAKEOVERS
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of
from tests.fixtures.runs import (
    ADA,
    BOB,
    HEAD,
    Gate,
    StartProcess,
    accept,
    die,
    expire,
    finished,
    stored,
    stored_once,
    stored_tree,
    until,
)
from tests.fixtures.services import Service

pytestmark = pytest.mark.usefixtures("lone_processes")
DAMAGES: dict[str, Json] = {
    "an event without a type": {"events.0.event": {"seq": 1}},
    "an event of another shape": {"events.3.event": {"seq": 4, "type": "tool-result", "output": 1}},
    "an event whose type is a list": {"events.0.event": {"seq": 1, "type": ["agent-start"]}},
    "an invalid event": {"events.1.event": None},
    "no list of events": {"events": "gone"},
    "fewer events than were stored": {"events": []},
    "an invalid status": {"status": "odd"},
    "options of another shape": {"options": [1]},
    "an invalid last number": {"lastSeq": "four"},
    "no last number": {"lastSeq": None},
}
FOR_THE_QUEUE: list[Json] = [
    {"priority": "high"},
    {"project": {"of": "unknown"}},
    {"department": [1]},
    {"lease.until": "soon"},
    {"deadline": "never"},
]


async def damage(service: Service, execution_id: str, changes: Raw) -> None:
    """Set fields of a stored execution behind the service's back."""
    executions = service.services.database[AgentExecution.get_collection_name()]
    assert (await executions.update_one({"executionId": execution_id}, {"$set": changes})).modified_count == 1


async def left_behind(
    service: Service, start_process: StartProcess, gate: Gate, last_seq: int, kind: str = "agent"
) -> str:
    """A run whose process died in a model call, after so many events of the root were stored; its id."""
    first = await start_process()
    execution_id = await accept(service, first, kind, judge=False)
    await until(lambda: gate.waiting == 1)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] >= last_seq)
    await die(first)
    return execution_id


@pytest.mark.parametrize("changes", DAMAGES.values(), ids=DAMAGES)
async def test_a_run_whose_document_is_damaged_fails_after_as_many_tries_as_one_that_kills(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate, changes: Json
) -> None:
    async def work(call: Call) -> Reply:
        if not call.tool_results:
            return completion("Hm.", ("echo", {"n": 1}))
        return await gate.passed("Lost.")

    model_server.on("work", work)
    execution_id = await left_behind(service, start_process, gate, 4)
    await damage(service, execution_id, changes)
    await expire(service, execution_id, takeovers=MAX_TAKEOVERS - 1)

    heir = await start_process()
    await stored_once(service, execution_id, lambda document: document["takeovers"] == MAX_TAKEOVERS)
    await until(lambda: not heir.owned)
    unended = await stored(service, execution_id)
    await expire(service, execution_id)
    document = await finished(service, execution_id)

    assert unended["status"] not in ("failed", "completed")
    assert (document["status"], document["error"]["code"]) == ("failed", "run-unreadable")
    assert (document["stopReason"], document["lease"], document["lastSeq"]) == ("error", None, 5)
    await until(lambda: not heir.owned)
    shown = await service.http.get(f"/api/v1/executions/{execution_id}/events", params={"after": 4})
    assert [(event["type"], event["seq"]) for event in shown.json()["items"]] == [("agent-error", 5)]
    assert len(model_server.calls) == 2
    assert heir.is_healthy


@pytest.mark.parametrize("changes", [{"status": "odd"}, {"lastSeq": "two"}])
async def test_a_damaged_child_ends_its_tree_and_what_had_ended_stays(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate, changes: Json
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Lost.") if call.is_from(BOB) else "The work is done."

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    execution_id = await left_behind(service, start_process, gate, 2, "department")
    ada = (await stored_tree(service, execution_id))[ADA]
    bob = (await stored_tree(service, execution_id))[BOB]
    await damage(service, bob["executionId"], changes)
    await expire(service, execution_id, takeovers=MAX_TAKEOVERS)

    await start_process()
    document = await finished(service, execution_id)

    tree = await stored_tree(service, execution_id)
    assert {agent: raw["status"] for agent, raw in tree.items()} == {HEAD: "failed", ADA: "completed", BOB: "failed"}
    assert tree[ADA]["output"] == ada["output"]
    assert document["error"]["code"] == tree[BOB]["error"]["code"] == "run-unreadable"
    assert tree[BOB]["lastSeq"] == document["lastSeq"] - 1


async def test_a_damaged_run_can_be_cancelled_at_once(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Lost.")

    model_server.on("work", work)
    execution_id = await left_behind(service, start_process, gate, 1)
    await damage(service, execution_id, {"events": "gone"})

    answer = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")

    document = await finished(service, execution_id)
    assert (answer.status_code, document["status"], document["stopReason"]) == (202, "cancelled", "cancelled")
    assert document["lastSeq"] == 2


async def test_a_lease_whose_end_is_no_date_has_run_out(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("The work is done.")

    model_server.on("work", work)
    execution_id = await left_behind(service, start_process, gate, 1)
    await damage(service, execution_id, {"lease.until": "soon"})
    gate.open()

    await start_process()

    document = await finished(service, execution_id)
    assert (document["status"], document["takeovers"]) == ("completed", 1)


async def test_damaged_runs_do_not_block_the_others(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    full = await start_process(RunLimits(max_concurrent=0))
    damaged = [await accept(service, full, "agent", judge=False) for _ in range(13)]
    good = await accept(service, full, "agent", judge=False)
    for execution_id in damaged:
        await damage(service, execution_id, {"options": [1]})
        await expire(service, execution_id, takeovers=MAX_TAKEOVERS, **{"lease.owner": "dead"})
    await damage(service, damaged[0], {"options": {}, "fence": "one"})
    for execution_id, changes in zip(damaged[1:], FOR_THE_QUEUE, strict=False):
        await damage(service, execution_id, changes)

    await start_process()

    assert (await finished(service, good))["status"] == "completed"
    mended, *failed = [await finished(service, execution_id) for execution_id in damaged]
    assert mended["error"]["code"] == "worker-lost"
    assert {document["error"]["code"] for document in failed} == {"run-unreadable"}
    assert {document["status"] for document in failed} == {"failed"}
