# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""Runs whose process dies: another takes them over, and nothing that was saved is done twice.

Each "process" is a run engine of its own on the same database; one that dies is cut off without a word.
"""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId, json_util

from app.events.log import TreeLost
from app.models.agent_execution import AgentExecution
from app.models.api_key import Role
from app.models.database import Raw
from app.services.access.api_keys import Caller
from app.services.runs import engine as engine_module
from app.services.runs.engine import RunEngine
from app.services.runs.requests import RunCreate
from tests.conftest import PROJECT, Service
from tests.fixtures.model_server import Call, Json, ModelServer, Reply, completion, plan_of, review
from tests.services.runs.conftest import (
    ADA,
    BOB,
    DEPARTMENT,
    HEAD,
    Catalogue,
    all_events,
    first_then,
    of_type,
    stored,
    stored_tree,
    types_of,
    until,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CALLER = Caller("tests", Role.ADMIN)
TERMINAL = ("completed", "failed", "cancelled")


@pytest.fixture(autouse=True)
async def lone_processes(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """The service's own engine looks away, and the tests' engines look often."""
    monkeypatch.setattr(engine_module, "RENEW_EVERY_SECONDS", 0.1)
    await cut_keeper(service.services.engine)
    yield
    await service.services.engine.start()


StartProcess = Callable[[], Awaitable[RunEngine]]


@pytest.fixture
async def start_process(service: Service) -> AsyncGenerator[StartProcess]:
    """Start a process that runs what it is given and takes over what nobody runs."""
    engines: list[RunEngine] = []
    parts = service.services

    async def start() -> RunEngine:
        engine = RunEngine(parts.database, parts.bus, parts.engine.loader, parts.engine.crew, max_concurrent=64)
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await die(engine)


class Gate:
    """A place in a script where calls wait until the test lets them pass."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = asyncio.Event()

    async def passed(self, reply: Reply) -> Reply:
        """The reply, once the gate is open."""
        self.waiting += 1
        await self._open.wait()
        return reply

    def open(self) -> None:
        """Let everybody pass, now and from now on."""
        self._open.set()


@pytest.fixture
async def gate() -> AsyncGenerator[Gate]:
    """A gate that is open at the latest when the test ends."""
    gate = Gate()
    yield gate
    gate.open()


async def cut_keeper(engine: RunEngine) -> None:
    """No lease is renewed and no lost run taken up any more."""
    keeper = engine._keeper
    assert keeper is not None
    keeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeper


async def die(engine: RunEngine) -> None:
    """End all that a process does, at once and without a word to the database."""
    await cut_keeper(engine)
    owned = list(engine._owned.values())
    for one in owned:
        one.log._lost = TreeLost("The process died.")  # what was not stored yet never is
        one.stop()
    await asyncio.gather(*(one.task for one in owned if one.task), return_exceptions=True)


async def accept(service: Service, engine: RunEngine, kind: str, **body: Any) -> str:  # noqa: ANN401 - any field
    """Have a process accept a run of Ada or of the department; its id."""
    starter = dataclasses.replace(service.services.starter, engine=engine)
    request = RunCreate.model_validate({"prompt": "Write.", "project": PROJECT, **body})
    if kind == "agent":
        return (await starter.start_agent_run(ADA, request, CALLER)).root.execution_id
    return (await starter.start_department_run(DEPARTMENT, request, CALLER)).root.execution_id


async def expire(service: Service, execution_id: str, **changes: Any) -> None:  # noqa: ANN401 - any stored value
    """Let a lease run out, as if its owner had been silent for long."""
    executions = service.services.database[AgentExecution.get_collection_name()]
    await executions.update_one({"executionId": execution_id}, {"$set": {"lease.until": LONG_AGO, **changes}})


async def finished(service: Service, execution_id: str) -> Raw:
    """The root's document once it has ended."""
    return await stored_once(service, execution_id, lambda document: document["status"] in TERMINAL)


async def stored_once(service: Service, execution_id: str, condition: Callable[[Raw], bool]) -> Raw:
    """The document once a condition holds, within fifteen seconds."""
    async with asyncio.timeout(15):
        while not condition(document := await stored(service, execution_id)):  # noqa: ASYNC110 - others store it
            await asyncio.sleep(0.02)
    return document


def gapless(events: list[Json]) -> bool:
    """Whether the numbers are 1, 2, 3 and so on."""
    return [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_a_run_whose_process_died_in_a_model_call_goes_on_from_its_last_saved_step(
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


async def test_a_run_that_was_only_accepted_is_run_by_another_process(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    first = await start_process()
    first._slots = asyncio.Semaphore(0)
    execution_id = await accept(service, first, "department")
    await die(first)
    await expire(service, execution_id)

    await start_process()

    assert (await finished(service, execution_id))["status"] == "completed"
    assert types_of(await all_events(service, execution_id))[:3] == ["agent-retry", "agent-start", "department-start"]
    assert len(model_server.calls_for("plan")) == 1


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


def is_one_step(neighbours: list[Json]) -> bool:
    """Whether two events are appended together, so that no death falls between them."""
    together = (
        ["agent-start", "department-start"],
        ["agent-thinking", "tool-call"],
        ["tool-call", "tool-call"],
        ["department-complete", "agent-complete"],
    )
    return types_of(neighbours) in together


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


async def test_a_zombie_s_later_writes_store_nothing_and_it_stops(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return "The heir's." if gate.waiting else await gate.passed("The zombie's.")

    model_server.on("work", work)
    zombie = await start_process()
    execution_id = await accept(service, zombie, "agent")
    await until(lambda: gate.waiting == 1)
    await cut_keeper(zombie)
    await expire(service, execution_id)
    await start_process()
    ended = await finished(service, execution_id)

    with service.services.bus.follow(execution_id, deltas=False) as follower:
        gate.open()
        await until(lambda: not zombie._owned)

        assert not follower._buffer
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
    await cut_keeper(zombie)
    await expire(service, execution_id)
    await start_process()
    await finished(service, execution_id)

    gate.open()
    await until(lambda: not zombie._owned)

    assert set(await stored_tree(service, execution_id)) == {HEAD, ADA}
    assert gapless(await all_events(service, execution_id))


async def test_of_two_processes_that_see_a_lost_run_one_takes_it(
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


async def test_a_process_that_lives_keeps_its_runs(
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

    await first.stop(grace_seconds=0.05)
    handed_over = await stored(service, execution_id)
    await start_process()
    document = await finished(service, execution_id)

    assert (handed_over["lease"]["owner"], handed_over["status"]) == ("", "running")
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

    await engine._renew_and_sweep()

    assert [await stored(service, execution_id) for execution_id in ids] == before
    assert "pending" in {document["status"] for document in before}
    assert model_server.calls == []
    await executions.delete_many({"_id": {"$in": [document["_id"] for document in documents]}})


async def test_a_damaged_document_does_not_keep_a_process_from_its_work(
    service: Service, model_server: ModelServer, start_process: StartProcess
) -> None:
    executions = service.services.database[AgentExecution.get_collection_name()]
    broken = {"executionId": "broken", "rootExecutionId": "broken", "status": "odd", "fence": 1, "takeovers": 0}
    await executions.insert_one(broken | {"lease": {"owner": "dead", "until": datetime(2019, 1, 1, tzinfo=UTC)}})
    first = await start_process()
    first._slots = asyncio.Semaphore(0)
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
        (HEAD, {"isActive": False}, "agent-inactive"),
        (HEAD, {"agentId": "renamed-001"}, None),
        (BOB, {"isActive": False}, "agent-inactive"),
    ],
)
async def test_a_run_that_is_taken_over_goes_on_by_the_catalogue_as_it_is_now(
    service: Service,
    model_server: ModelServer,
    start_process: StartProcess,
    gate: Gate,
    catalogue: Catalogue,
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
    await catalogue.edit_agent(agent, **change)
    await expire(service, execution_id)

    await start_process()
    document = await finished(service, execution_id)

    assert document.get("error", {}).get("code") == code
    executions = service.services.database[AgentExecution.get_collection_name()]
    left = [raw["status"] async for raw in executions.find({"rootExecutionId": execution_id})]
    assert len(left) == 3
    assert set(left) <= set(TERMINAL)


async def test_a_run_whose_agent_is_gone_fails_and_leaves_nobody_running(
    service: Service, start_process: StartProcess, catalogue: Catalogue
) -> None:
    first = await start_process()
    first._slots = asyncio.Semaphore(0)
    execution_id = await accept(service, first, "agent")
    await die(first)
    await expire(service, execution_id, agent=ObjectId())

    await start_process()
    document = await finished(service, execution_id)

    assert (document["status"], document["error"]["code"]) == ("failed", "agent-not-found")
