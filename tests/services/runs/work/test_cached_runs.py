"""Runs with the response cache: repeated requests cost nothing, and say so."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.fixtures.model_server import Json, ModelServer, completion, fault
from tests.fixtures.runs import (
    ADA,
    DEPARTMENT,
    PRICED_MODEL,
    Gate,
    all_events,
    calls_tool,
    insert_department,
    of_type,
    until,
    write_models,
)
from tests.fixtures.services import PROJECT, Service, StartService
from tests.fixtures.valkey import ValkeyProcess

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("patient_cache")]


@pytest.fixture
async def cached_service(
    start_service: StartService, model_server: ModelServer, tmp_path: Path
) -> AsyncGenerator[Service]:
    """A service of this test alone, whose cache is in MongoDB."""
    async with start_service(models_config=models_of(tmp_path, model_server), response_cache_ttl_seconds=60) as running:
        be_patient(running)
        await insert_department()
        yield running


def be_patient(service: Service) -> None:
    """The store may take long on a busy machine; the tests of the cache itself are about its bound."""
    cache = service.services.engine.context.response_cache
    assert cache is not None
    cache.store.answer_seconds = 20


def models_of(folder: Path, model_server: ModelServer) -> Path:
    """The MODELS_CONFIG of the run tests."""
    return write_models(folder / "models.yaml", model_server.url)


async def rows_of(service: Service, execution_id: str) -> list[Json]:
    """The ledger rows of an execution."""
    answer = await service.http.get(f"/api/v1/executions/{execution_id}/calls", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_a_repeated_department_run_makes_no_model_call(
    cached_service: Service, model_server: ModelServer
) -> None:
    first = await cached_service.run_department(DEPARTMENT, prompt="Write.", model=PRICED_MODEL)
    made = len(model_server.calls)

    second = await cached_service.run_department(DEPARTMENT, prompt="Write.", model=PRICED_MODEL)

    assert len(model_server.calls) == made
    assert second["output"]["text"] == first["output"]["text"]
    assert second["tokenUsage"]["total"] == 0
    assert second["costUsd"] == 0
    rows = await rows_of(cached_service, second["executionId"])
    assert rows
    assert all((row["cached"], row["cacheStatus"], row["costUsd"]) == (True, "hit", 0) for row in rows)
    assert all(row["savedTokens"] == 15 and row["savedCostUsd"] > 0 for row in rows)


async def test_tools_still_run_on_hits_and_events_are_marked_cached(
    cached_service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", calls_tool("echo", {"a": 1}))
    first = await cached_service.run_agent(ADA)
    model_server.on("work", completion("Another answer."))

    second = await cached_service.run_agent(ADA)

    events = await all_events(cached_service, second["executionId"])
    assert [event["cached"] for event in of_type(events, "agent-response")] == [True]
    assert [event["cached"] for event in of_type(events, "tool-call")] == [True]
    assert len(of_type(events, "tool-result")) == 1
    assert second["output"] == first["output"]
    before = await all_events(cached_service, first["executionId"])
    assert "cached" not in of_type(before, "agent-response")[0]


async def test_a_run_and_a_retry_from_the_start_can_bypass_it(
    cached_service: Service, model_server: ModelServer
) -> None:
    await cached_service.run_agent(ADA)
    model_server.on("work", fault(400))
    failed = await cached_service.run_agent(ADA, cache=False)
    assert failed["status"] == "failed"
    rows = await rows_of(cached_service, failed["executionId"])
    assert {row["cacheStatus"] for row in rows} == {"bypassed"}
    model_server.reset()

    answer = await cached_service.http.post(
        f"/api/v1/executions/{failed['executionId']}/retry", params={"from": "start"}, headers={"Prefer": "wait=30"}
    )

    assert answer.status_code == 200, answer.text
    rows = await rows_of(cached_service, answer.json()["executionId"])
    assert {row["cacheStatus"] for row in rows} == {"bypassed"}
    assert len(model_server.calls_for("work")) == 1


async def test_another_project_has_answers_of_its_own(cached_service: Service, model_server: ModelServer) -> None:
    await cached_service.run_agent(ADA)

    await cached_service.run_agent(ADA, project="66f0a1b2c3d4e5f601234568")

    assert len(model_server.calls_for("work")) == 2


@pytest.mark.parametrize("carrier", ["redis", "mongodb"])
async def test_fifty_equal_runs_on_two_services_cost_one_call(
    start_service: StartService, model_server: ModelServer, valkey: ValkeyProcess, tmp_path: Path, carrier: str
) -> None:
    gate = Gate()
    model_server.on("work", lambda _: gate.passed("Done."))
    redis = {"redis_url": SecretStr(valkey.url)} if carrier == "redis" else {}
    settings: dict[str, Any] = {"models_config": models_of(tmp_path, model_server), "response_cache_ttl_seconds": 60}
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(start_service(**settings, **redis)) for _ in range(2)]
        for service in services:
            be_patient(service)
        await insert_department()
        body = {"prompt": "Write.", "project": PROJECT}
        asked = [
            asyncio.create_task(
                services[n % 2].http.post(f"/api/v1/agents/{ADA}/runs", json=body, headers={"Prefer": "wait=30"})
            )
            for n in range(50)
        ]
        await until(lambda: gate.waiting > 0)
        await asyncio.sleep(1)
        gate.open()
        answers = [(await answer).json() for answer in asked]

    assert len(model_server.calls_for("work")) == 1
    assert {answer["status"] for answer in answers} == {"completed"}
    assert len(model_server.calls_for("judge")) == 1
    assert sum(answer["tokenUsage"]["total"] for answer in answers) == 30  # one call of each
