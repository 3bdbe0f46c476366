"""Transactions that a killed process left open: they lock what they changed, and nothing else may wait for them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from app.models.agent_execution import AgentExecution
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.leases import NOBODY
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.timings import Timings
from tests.fixtures.model_server import Call, ModelServer, Reply
from tests.fixtures.runs import Gate, StartProcess, accept, expire, finished, stored, until
from tests.fixtures.services import Service

AtWork = tuple[RunEngine, list[str]]
LIFETIME = "transactionLifetimeLimitSeconds"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lone_processes", "lasting_transactions")]

IMPATIENT = Timings(
    lease_seconds=6.0, renew_every_seconds=0.3, answer_seconds=1.0, give_up_seconds=4.0, look_every_seconds=0.2
)
"""The timings of a process whose leases end soon."""


@pytest.fixture
async def lasting_transactions(service: Service) -> AsyncGenerator[None]:
    """A database that keeps the transactions of dead processes for longer than a test takes."""
    admin = service.services.database.client.admin
    before = await admin.command({"setParameter": 1, LIFETIME: 300})
    yield
    await admin.command({"setParameter": 1, LIFETIME: before["was"]})


@pytest.fixture
async def at_work(service: Service, model_server: ModelServer, start_process: StartProcess, gate: Gate) -> AtWork:
    """A process, and three runs of it whose model calls wait for the gate."""

    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    process = await start_process(timings=IMPATIENT)
    runs = [await accept(service, process, "agent") for _ in range(3)]
    await until(lambda: gate.waiting == 3)
    return process, runs


@asynccontextmanager
async def locked(service: Service, execution_id: str) -> AsyncGenerator[None]:
    """Hold an execution's document in a transaction that is never committed, as a killed process does."""
    database = service.services.database
    executions = database[AgentExecution.get_collection_name()]
    async with database.client.start_session() as session, await session.start_transaction():
        await executions.update_one({"executionId": execution_id}, {"$set": {"lockedBy": "a test"}}, session=session)
        yield
        await session.abort_transaction()


async def test_a_locked_run_costs_no_other_run_its_lease(service: Service, at_work: AtWork, gate: Gate) -> None:
    process, runs = at_work

    async with locked(service, runs[1]):
        await asyncio.sleep(IMPATIENT.give_up_seconds + 2)
        assert process.is_healthy
        assert runs[0] in process.owned
        assert runs[2] in process.owned
        await until(lambda: runs[1] not in process.owned)  # its lease ends, so others may take it
        gate.open()
        assert [(await finished(service, one))["takeovers"] for one in (runs[0], runs[2])] == [0, 0]

    assert (await finished(service, runs[1]))["status"] == "completed"


async def test_a_locked_run_in_the_queue_delays_no_other(service: Service, start_process: StartProcess) -> None:
    full = await start_process(RunLimits(max_concurrent=0))
    runs = [await accept(service, full, "agent") for _ in range(3)]

    async with locked(service, runs[0]):
        process = await start_process(timings=IMPATIENT)
        async with asyncio.timeout(IMPATIENT.answer_seconds * 4):
            assert [(await finished(service, one))["status"] for one in runs[1:]] == ["completed", "completed"]
            later = await accept(service, full, "agent")
            assert (await finished(service, later))["status"] == "completed"
        assert (await stored(service, runs[0]))["status"] == "pending"
        assert process.is_healthy

    assert (await finished(service, runs[0]))["status"] == "completed"


async def test_a_process_stops_in_time_although_a_run_is_locked_and_hands_the_others_over(
    service: Service, at_work: AtWork, start_process: StartProcess, gate: Gate
) -> None:
    process, runs = at_work

    async with locked(service, runs[1]):
        async with asyncio.timeout(15):
            await process.stop(grace_seconds=0)
        owners = [(await stored(service, one))["lease"]["owner"] for one in runs]
        assert (owners[0], owners[2]) == (NOBODY, NOBODY)
        assert owners[1] != NOBODY

    gate.open()
    await start_process()
    await expire(service, runs[1])
    assert [(await finished(service, one))["status"] for one in runs] == ["completed"] * 3


async def test_requests_that_change_a_locked_run_are_refused_in_time(
    service: Service, model_server: ModelServer, gate: Gate
) -> None:
    async def work(_: Call) -> Reply:
        return await gate.passed("Done.")

    model_server.on("work", work)
    execution_id = await accept(service, service.services.engine, "agent")
    await until(lambda: gate.waiting == 1)

    async with locked(service, execution_id):
        for method, path, body in (
            ("POST", f"/api/v1/executions/{execution_id}/cancel", None),
            ("PATCH", f"/api/v1/executions/{execution_id}", {"legalHold": True}),
        ):
            async with asyncio.timeout(15):
                answer = await service.http.request(method, path, json=body)
            assert answer.status_code == 503, answer.text
            assert "Retry-After" in answer.headers

    cancelled = await service.http.post(f"/api/v1/executions/{execution_id}/cancel")
    assert cancelled.status_code == 202, cancelled.text
