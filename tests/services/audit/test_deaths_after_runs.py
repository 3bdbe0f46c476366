"""Processes that die while they count and record the ends of runs: each end counts once and is recorded once."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from app.database.connection import Database
from app.failpoints import PLACES
from tests.fixtures.model_server import Json, ModelServer
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import subfolder
from tests.fixtures.services import ADMIN_KEY, PROJECT, WITHOUT_ROOTS
from tests.fixtures.waiting import wait_until

AGENT = "dialogue-specialist-001"
RUNS_BEFORE_A_DEATH = 3
PASSED_AFTER_RUNS = [place for place in PLACES if "outbox" in place or "audit-append" in place]


def client_of(process: ServeProcess) -> httpx.AsyncClient:
    """An admin's client of a process."""
    return httpx.AsyncClient(base_url=process.url, headers={"X-API-Key": ADMIN_KEY}, timeout=30, verify=WITHOUT_ROOTS)


async def accepted_runs(http: httpx.AsyncClient) -> list[str]:
    """Start a few runs; the ids of those that were accepted before the process died."""
    accepted: list[str] = []
    for _ in range(RUNS_BEFORE_A_DEATH):
        body = {"prompt": "Work.", "project": PROJECT, "judge": False}
        try:
            answer = await http.post(f"/api/v1/agents/{AGENT}/runs", json=body)
        except httpx.TransportError:
            break
        assert answer.status_code == 202, answer.text
        accepted.append(answer.json()["executionId"])
    return accepted


async def all_items(http: httpx.AsyncClient, path: str, **params: str) -> list[Json]:
    """The first hundred items of a list."""
    answer = await http.get(path, params={"limit": 100, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


@pytest.fixture
async def short_transactions(database: Database) -> AsyncGenerator[None]:
    """A database that forgets the transactions of dead processes soon, not after a minute."""
    admin = database.client.admin
    before = await admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": 3})
    yield
    await admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": before["was"]})


@pytest.mark.slow
@pytest.mark.usefixtures("short_transactions")
async def test_an_end_is_counted_and_recorded_once_wherever_the_process_dies(
    database: Database, database_uri: str, models_config: Path, model_server: ModelServer, tmp_path: Path
) -> None:
    environment = {
        "MONGODB_URI": database_uri,
        "MODELS_CONFIG": str(models_config),
        "ADMIN_API_KEY": ADMIN_KEY,
        "SEED_ON_START": "true",
    }

    async def is_settled() -> bool:
        unsettled = {"$or": [{"outbox": {"$gt": {}}}, {"uncounted": {"$exists": True}}, {"lease": {"$gt": {}}}]}
        if await database["agent-executions"].count_documents(unsettled):
            return False
        return not await database["agent-audit-marks"].count_documents({})

    accepted: list[str] = []
    for place in PASSED_AFTER_RUNS:
        async with serving(tmp_path, **environment, TOOL_WORKERS="1"):  # what is pending would kill the next one early
            await wait_until(is_settled, 60)
        folder = subfolder(tmp_path, place)
        async with serving(folder, **environment, FAILPOINTS=f"{place}:kill", TOOL_WORKERS="1") as process:
            async with client_of(process) as http:
                runs = await accepted_runs(http)
            async with asyncio.timeout(30):
                assert await process.process.wait() == -signal.SIGKILL, place
        assert runs, place
        accepted += runs

    async with serving(tmp_path, **environment, TOOL_WORKERS="1") as process, client_of(process) as http:
        await wait_until(is_settled, 60)
        agent = (await http.get(f"/api/v1/agents/{AGENT}")).json()
        usage = (await http.get("/api/v1/analytics/usage", params={"groupBy": "agent"})).json()
        ends = await all_items(http, "/api/v1/audit", action="execution.end")
        verified = (await http.get("/api/v1/audit/verify")).json()
        stored = await database["agent-executions"].distinct("executionId")
    assert set(accepted) <= set(stored), "and perhaps some whose answer was lost"
    assert (agent["totalExecutions"], usage["executions"]) == (len(stored), len(stored))
    assert sorted(end["target"]["key"] for end in ends) == sorted(stored)
    assert verified["ok"], verified
