# pyright: reportPrivateUsage=false
"""The queue: who takes what when several processes share the work, with Redis and without."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from bson import ObjectId

from app.models.agent_execution import AgentExecution, ExecutionStatus, Lease
from app.services.runs.engine import queue as queue_module
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.leases import Leases
from app.services.runs.engine.queue import RunQueue
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.wakeups import RedisWakeups, WakeupTimings
from tests.fixtures.model_server import Call, ModelServer, Reply
from tests.fixtures.runs import (
    ADA,
    DEFAULT_LIMITS,
    DEPARTMENT,
    HEAD,
    Catalog,
    Gate,
    StartProcess,
    accept,
    all_events,
    finished,
    stored,
    stored_once,
    types_of,
    until,
)
from tests.fixtures.services import PROJECT, Service
from tests.fixtures.valkey import ValkeyProcess

pytestmark = pytest.mark.usefixtures("lone_processes")
StartSharing = Callable[..., Awaitable[tuple[RunEngine, RedisWakeups]]]
IMPATIENT = WakeupTimings(healthy_seconds=2.0, listen_seconds=0.2, answer_seconds=0.5)


@pytest.fixture
async def waiting(service: Service) -> AsyncGenerator[Callable[..., Any]]:
    """Put a root into the queue as another process would, and out of it in the end."""
    executions = service.services.database[AgentExecution.get_collection_name()]
    leases = service.services.engine.leases
    made: list[str] = []

    async def wait(name: str, project: ObjectId, priority: int, **fields: Any) -> None:  # noqa: ANN401 - any field
        await leases.read_clock()
        root = AgentExecution(
            execution_id=name,
            root_execution_id=name,
            project=project,  # pyright: ignore[reportArgumentType] - Beanie's id type is one
            priority=priority,
            fence=1,
            lease=fields.pop("lease", Lease(owner="", until=leases.server_now())),
            **fields,
        )
        made.append(name)
        await executions.insert_one(root.as_stored())
        await asyncio.sleep(0.002)

    yield wait
    await executions.delete_many({"executionId": {"$in": made}})


async def test_priority_decides_first_and_then_whose_project_has_the_fewest(
    service: Service, waiting: Callable[..., Any]
) -> None:
    ours, theirs = ObjectId(), ObjectId()
    for place in range(3):
        await waiting(f"ours_{place}", ours, 5)
    await waiting("theirs_0", theirs, 5)
    await waiting("urgent", ours, 1)
    await waiting("begun", theirs, 9, status=ExecutionStatus.RUNNING)

    found = await RunQueue(service.services.database, service.services.engine.leases).find_waiting()

    assert [one.root_id for one in found] == ["begun", "urgent", "ours_0", "theirs_0", "ours_1", "ours_2"]


async def test_a_run_that_has_waited_for_minutes_overtakes(service: Service, waiting: Callable[..., Any]) -> None:
    project = ObjectId()
    leases = service.services.engine.leases
    await leases.read_clock()
    long_ago = leases.server_now().replace(year=2020)
    await waiting("urgent", project, 1)
    await waiting("patient", project, 10, lease=Lease(owner="", until=long_ago))

    found = await RunQueue(service.services.database, leases).find_waiting()

    assert [one.root_id for one in found] == ["patient", "urgent"]


async def test_a_process_whose_clock_is_behind_sees_what_another_leaves_to_the_queue(
    service: Service, waiting: Callable[..., Any]
) -> None:
    ahead = service.services.engine.leases
    await ahead.read_clock()
    behind = Leases(service.services.database, "behind", run_seconds=60)
    await behind.read_clock()
    assert behind._clock_offset is not None
    behind._clock_offset -= 0.5
    root = AgentExecution(execution_id="fresh")
    ahead.leave_to_queue(root)
    await waiting("fresh", ObjectId(), 5, lease=root.lease)

    found = await RunQueue(service.services.database, behind).find_waiting()

    assert [one.root_id for one in found] == ["fresh"]


async def test_a_process_takes_no_more_runs_than_it_has_room_for(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    engine = await start_process(RunLimits(max_concurrent=2))
    ids = [await accept(service, engine, "agent", judge=False) for _ in range(5)]
    await until(lambda: gate.waiting == 2)

    statuses = [(await stored(service, one))["lease"]["owner"] for one in ids]
    gate.open()
    documents = [await finished(service, one) for one in ids]

    assert statuses.count("") == 3
    assert {document["status"] for document in documents} == {"completed"}
    assert {document["takeovers"] for document in documents} == {0}
    for one in ids:
        assert "agent-retry" not in types_of(await all_events(service, one))


@pytest.mark.slow
async def test_a_department_s_limit_holds_over_all_processes(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    running, most = 0, 0
    two = asyncio.Event()

    async def work(_: Call) -> Reply:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            two.set()
        await two.wait()
        await asyncio.sleep(0.05)
        running -= 1
        return "Done."

    model_server.on("work", work)
    limits = RunLimits(per_department=2)
    engines = [await start_process(limits) for _ in range(3)]

    ids = await asyncio.gather(*(accept(service, engines[place % 3], "agent", judge=False) for place in range(8)))
    for one in ids:
        assert (await finished(service, one))["status"] == "completed"

    assert most == 2


async def test_a_full_department_does_not_block_others(
    service: Service, waiting: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_CANDIDATES", 3)
    project, full, other = ObjectId(), ObjectId(), ObjectId()
    leases = service.services.engine.leases
    await leases.read_clock()
    until = leases.server_now() + timedelta(seconds=10)
    running = {"status": ExecutionStatus.RUNNING, "lease": Lease(owner="process_1", until=until)}
    await waiting("running", project, 1, department=full, **running)
    abandoned = {"status": ExecutionStatus.RUNNING, "lease": Lease(owner="dead", until=leases.server_now())}
    await waiting("begun", project, 1, department=full, **abandoned)
    for place in range(4):
        await waiting(f"full_{place}", project, 1, department=full)
    await waiting("other", project, 9, department=other)

    found = await RunQueue(service.services.database, leases, per_department=1).find_waiting()

    assert [one.root_id for one in found] == ["begun", "other"]


async def test_a_run_is_run_although_its_agent_was_switched_off_after_it_was_accepted(
    service: Service, model_server: ModelServer, start_process: StartProcess, catalog: Catalog
) -> None:
    full = await start_process(RunLimits(max_concurrent=0))
    accepted = [await accept(service, full, kind, judge=False) for kind in ("agent", "department")]
    await catalog.edit_department(DEPARTMENT, isActive=False)
    for agent_id in (ADA, HEAD):
        await catalog.edit_agent(agent_id, isActive=False)

    await start_process()

    assert [(await finished(service, one))["status"] for one in accepted] == ["completed", "completed"]
    refused = await service.http.post(f"/api/v1/agents/{ADA}/runs", json={"prompt": "Write.", "project": PROJECT})
    assert refused.status_code == 409


async def test_a_run_accepted_while_leases_are_not_renewed_waits_for_another_process(
    service: Service, model_server: ModelServer, start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = await start_process()
    monkeypatch.setattr(
        type(doubtful.lease_renewer),
        "holds",
        property(lambda renewer: renewer is not doubtful.lease_renewer),
    )
    execution_id = await accept(service, doubtful, "agent", judge=False)
    assert (await stored(service, execution_id))["lease"]["owner"] == ""

    await start_process()

    document = await finished(service, execution_id)
    assert (document["status"], document.get("takeovers") or 0) == ("completed", 0)


async def test_a_run_that_takes_too_long_fails_and_says_so(
    service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Too late.")

    model_server.on("work", work)
    engine = await start_process(RunLimits(run_seconds=0.3))
    execution_id = await accept(service, engine, "agent")

    document = await finished(service, execution_id)

    assert (document["status"], document["error"]["code"]) == ("failed", "run-too-long")


@pytest.fixture
async def start_sharing(valkey: ValkeyProcess, start_process: StartProcess) -> AsyncGenerator[StartSharing]:
    """Start a process that shares its runs through Redis."""
    started: list[RedisWakeups] = []

    async def start(limits: RunLimits = DEFAULT_LIMITS) -> tuple[RunEngine, RedisWakeups]:
        engine = await start_process(limits, open_wakeups=partial(RedisWakeups, valkey.url, timings=IMPATIENT))
        assert isinstance(engine.wakeups, RedisWakeups)
        started.append(engine.wakeups)
        return engine, engine.wakeups

    yield start
    for wakeups in started:
        await wakeups.stop()


@pytest.mark.slow
async def test_another_process_runs_an_accepted_run_with_or_without_redis(
    service: Service, model_server: ModelServer, start_sharing: StartSharing, valkey: ValkeyProcess
) -> None:
    (server, ours), (_, theirs) = await start_sharing(RunLimits(max_concurrent=0)), await start_sharing()
    wakeups = [ours, theirs]

    first = await accept(service, server, "agent", judge=False)
    assert (await finished(service, first))["status"] == "completed"
    assert await ours._queue.count("incomplete") == 0

    await valkey.flush()
    second = await accept(service, server, "agent", judge=False)
    assert (await finished(service, second))["status"] == "completed"

    await valkey.stop()
    third = await accept(service, server, "agent", judge=False)
    assert (await finished(service, third))["status"] == "completed"
    await until(lambda: not any(one.is_healthy for one in wakeups))

    await valkey.start()
    await until(lambda: all(one.is_healthy for one in wakeups))
    fourth = await accept(service, server, "agent", judge=False)
    assert (await finished(service, fourth))["status"] == "completed"
    assert len(model_server.calls) == 4


@pytest.mark.slow
async def test_a_redis_that_never_answers_delays_no_run(
    service: Service, model_server: ModelServer, start_sharing: StartSharing, valkey: ValkeyProcess
) -> None:
    (server, ours), (_, theirs) = await start_sharing(RunLimits(max_concurrent=0)), await start_sharing()
    wakeups = [ours, theirs]
    valkey.freeze()

    clock = asyncio.get_running_loop().time
    began = clock()
    execution_id = await accept(service, server, "agent", judge=False)
    accepted = clock() - began
    document = await finished(service, execution_id)
    await until(lambda: not any(one.is_healthy for one in wakeups))
    valkey.thaw()

    assert document["status"] == "completed"
    assert accepted < IMPATIENT.notify_seconds


@pytest.mark.slow
async def test_two_processes_share_incoming_runs(
    service: Service, model_server: ModelServer, start_sharing: StartSharing, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    server, _ = await start_sharing(RunLimits(max_concurrent=0))
    workers = [(await start_sharing(RunLimits(max_concurrent=4)))[0] for _ in range(2)]

    ids = [await accept(service, server, "agent", judge=False) for _ in range(8)]
    await until(lambda: gate.waiting == 8)
    taken = [worker.running for worker in workers]
    gate.open()

    assert taken == [4, 4]
    for one in ids:
        assert (await stored_once(service, one, lambda document: document["status"] == "completed"))["takeovers"] == 0
