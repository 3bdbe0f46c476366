# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""Runs whose process dies: another takes them over, and nothing that was saved is done twice.

Each "process" is a run engine of its own on the same database; one that dies is cut off without a word.
"""

import pytest
from bson import ObjectId

from app.database.connection import Raw
from app.events.log import log_rows as rows_module
from app.models.agent_execution import AgentExecution
from app.services.runs.engine.dispatcher import RunLimits
from tests.fixtures.exposition import counted
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of, review
from tests.fixtures.runs import (
    ADA,
    BOB,
    HEAD,
    LONG_AGO,
    Catalog,
    Gate,
    StartProcess,
    accept,
    all_events,
    die,
    expire,
    finished,
    first_then,
    gapless,
    of_type,
    stop_lease_renewal,
    stored_once,
    stored_tree,
    types_of,
    until,
)
from tests.fixtures.services import Service

pytestmark = pytest.mark.usefixtures("lone_processes")


async def test_a_run_whose_process_died_in_a_model_call_continues_from_its_last_saved_step(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        if not call.tool_results:
            return completion("Hm.", ("echo", {"n": 1}))
        return "Done." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent")
    await until(lambda: gate.waiting == 1)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 4)  # writes overlap with calls

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    events = await all_events(service, execution_id)
    assert types_of(events) == [
        "agent-start",
        "agent-thinking",
        "tool-call",
        "tool-result",
        "agent-retry",
        "agent-response",
        "quality-check",
        "agent-complete",
    ]
    assert gapless(events)
    assert {name: events[4][name] for name in ("agentId", "reason", "attempt")} == {
        "agentId": ADA,
        "reason": "taken-over",
        "attempt": 1,
    }
    begun, lost, repeated = model_server.calls_for("work")
    assert lost.messages == repeated.messages != begun.messages
    assert (document["status"], document["output"]["text"], document["takeovers"]) == ("completed", "Done.", 1)
    assert document["tokenUsage"]["total"] == 3 * 15
    assert document["lease"] is None


@pytest.mark.slow
async def test_a_run_that_was_only_accepted_is_run_by_another_process(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    first = await start_process(RunLimits(max_concurrent=0))
    await stop_lease_renewal(first)
    execution_id = await accept(service, first, "department")
    await die(first)

    await start_process()

    assert (await finished(service, execution_id))["status"] == "completed"
    assert types_of(await all_events(service, execution_id))[:2] == ["agent-start", "department-start"]
    assert len(model_server.calls_for("plan")) == 1


@pytest.mark.slow
async def test_a_tool_call_without_its_result_is_made_again_and_the_model_call_before_it_is_not(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    model_server.on("work", first_then(completion(None, ("echo", {}), ("hang", {})), "Done."))
    first = await start_process()
    execution_id = await accept(service, first, "agent", judge=False)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 4)  # the quick one's result

    await die(first)
    await expire(service, execution_id)
    await start_process()
    await finished(service, execution_id)

    events = await all_events(service, execution_id)
    assert len(of_type(events, "tool-call")) == 2
    assert sorted(event["toolName"] for event in of_type(events, "tool-result")) == ["echo", "hang"]
    assert gapless(events)
    assert len(model_server.calls_for("work")) == 2


async def test_events_on_pages_and_payloads_that_were_cut_are_gone_on_from_whole(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "MAX_DOCUMENT_ROWS", 2)
    text = "0123456789" * 10_000

    async def work(call: Call) -> Reply:
        if not any(message["role"] == "tool" for message in call.messages):
            return completion("Hm.", ("echo", {"text": text}))
        return "Done." if gate.waiting else await gate.passed("Lost.")

    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "agent", judge=False)
    await until(lambda: gate.waiting == 1)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 4)

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    _, lost, repeated = model_server.calls_for("work")
    events = await all_events(service, execution_id)
    assert lost.messages == repeated.messages
    assert text in str(repeated.messages)
    assert (len(document["events"]), document["pagesFrom"], len(events)) == (2, 3, 7)
    assert gapless(events)


@pytest.mark.slow
@pytest.mark.parametrize(("idempotent", "code"), [(False, "outcome-unknown"), (True, "tool-timeout")])
async def test_a_call_that_may_have_had_an_effect_is_made_again_only_where_its_author_allows_it(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    catalog: Catalog,
    idempotent: bool,
    code: str,
) -> None:
    await catalog.edit_tool("hang", executeFunction="(input, { fetch }) => { for (;;) {} }", idempotent=idempotent)
    outcome = "timeout" if idempotent else "error"
    takeovers, outcomes = counted("takeovers_total"), counted("tool_calls_total", outcome=outcome)
    model_server.on("work", first_then(completion(None, ("hang", {})), "Done."))
    first = await start_process()
    execution_id = await accept(service, first, "agent", judge=False)
    await stored_once(service, execution_id, lambda document: document["lastSeq"] == 2)

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    results = of_type(await all_events(service, execution_id), "tool-result")
    assert document["status"] == "completed"
    assert [result["output"]["error"]["code"] for result in results] == [code]
    assert model_server.calls[-1].tool_results[0]["error"]["code"] == code
    assert counted("takeovers_total") == takeovers + 1
    assert counted("tool_calls_total", outcome=outcome) == outcomes + 1


@pytest.mark.slow
async def test_in_a_department_nothing_that_was_finished_is_done_again(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(call: Call) -> Reply:
        return await gate.passed("Bob's.") if call.is_from(BOB) and not gate.waiting else "The work is done."

    model_server.on("plan", plan_of((ADA, "A", []), (BOB, "B", [ADA])))
    model_server.on("work", work)
    first = await start_process()
    execution_id = await accept(service, first, "department")
    await until(lambda: gate.waiting == 1)

    await die(first)
    await expire(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    calls = [(call.purpose, call.execution_id) for call in model_server.calls]
    tree = await stored_tree(service, execution_id)
    bob = tree[BOB]["executionId"]
    assert calls.count(("work", bob)) == 2
    assert all(calls.count(call) == 1 for call in calls if call != ("work", bob))
    assert gapless(await all_events(service, execution_id))
    assert [line["status"] for line in document["output"]["report"]["specialists"]] == ["completed", "completed"]
    assert set(tree) == {HEAD, ADA, BOB}


def as_far_as(document: Raw, seq: int, root_id: str) -> Raw:
    """A document as a process that died after event `seq` of the tree would have left it, under ids of its own."""
    rows = [row for row in document["events"] if row["event"]["seq"] <= seq]
    fresh = {"_id": ObjectId(), "executionId": f"{document['executionId']}_{seq}", "rootExecutionId": root_id}
    if rows == document["events"]:
        return document | fresh
    ending = ("output", "runState", "completedAt", "error", "stopReason", "tokenUsage", "qualityScore", "reviewedBy")
    left = {name: value for name, value in document.items() if name not in ending}
    decisions = [row["event"]["status"] for row in rows if row["event"]["type"] == "review-status"]
    state = {
        "status": "running" if rows else "pending",
        "lastSeq": rows[-1]["event"]["seq"] if rows else 0,
        "reviewStatus": decisions[-1] if decisions else "pending",
    }
    return left | fresh | state | {"events": rows}


def is_one_step(neighbors: list[Json]) -> bool:
    """Whether two events are appended together, so that no death falls between them."""
    together = (
        ["agent-start", "department-start"],
        ["agent-thinking", "tool-call"],
        ["tool-call", "tool-call"],
        ["department-complete", "agent-complete"],
    )
    return types_of(neighbors) in together


@pytest.mark.slow
async def test_a_death_after_any_event_leads_to_the_same_end(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    def work(call: Call) -> Reply:
        if not call.tool_results:
            return completion("Hm.", ("echo", {"n": 1}), ("echo", {"n": 2}))
        return "Second draft." if "revision" in str(call.messages[-1]["content"]) else "First draft."

    model_server.on("plan", plan_of((ADA, "A", [])))
    model_server.on("work", work)
    model_server.on(
        "review", lambda call: review("approved" if "draft 2" in call.text else "revision-needed", "Notes.")
    )
    first = await start_process()
    reference = await accept(service, first, "department")
    expected = await finished(service, reference)
    documents = await stored_tree(service, reference)
    expected_events = await all_events(service, reference)
    asked = len(model_server.calls)
    model_server.calls.clear()
    executions = service.services.database[AgentExecution.get_collection_name()]
    places = [seq for seq in range(1, len(expected_events)) if not is_one_step(expected_events[seq - 1 : seq + 1])]
    for seq in places:
        root_id = f"{reference}_{seq}"
        root = as_far_as(documents[HEAD], seq, root_id) | {"lease": {"owner": "dead", "until": LONG_AGO}}
        child = as_far_as(documents[ADA], seq, root_id) | {"parentExecutionId": root_id}
        hired = "agent-thinking" in types_of(expected_events[: seq - 1])
        await executions.insert_many([root, child] if hired else [root])

    ends = [await finished(service, f"{reference}_{seq}") for seq in places]

    saved = [sum("usage" in event for event in expected_events[:seq]) for seq in places]
    for seq, end, spared in zip(places, ends, saved, strict=True):
        events = await all_events(service, f"{reference}_{seq}")
        assert [kind for kind in types_of(events) if kind != "agent-retry"] == types_of(expected_events), seq
        assert gapless(events)
        assert end["output"]["text"] == expected["output"]["text"]
        assert end["runState"] == expected["runState"]
        tree = await stored_tree(service, f"{reference}_{seq}")
        members = {raw["executionId"] for raw in tree.values()}
        assert sum(call.execution_id in members for call in model_server.calls) == asked - spared, seq
        ada = tree[ADA]
        kept = ("output", "runState", "tokenUsage", "retryCount", "reviewStatus", "reviewNotes", "qualityScore")
        assert [ada.get(name) for name in kept] == [documents[ADA].get(name) for name in kept], seq
