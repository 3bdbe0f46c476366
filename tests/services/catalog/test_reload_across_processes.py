"""Two processes of the service on one database: both use an edit by hand."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from app.database.connection import Database
from tests.fixtures.model_server import ModelServer
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.services import ADMIN_KEY, PROJECT
from tests.fixtures.waiting import wait_until

AGENT = "dialogue-specialist-001"
SECONDS_AFTER_THE_EDIT = 1.0


async def run_on(process: ServeProcess) -> str:
    """Run the agent on one of the processes; the execution's id."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Prefer": "wait=30"}
    async with httpx.AsyncClient(base_url=process.url, headers=headers, timeout=40) as http:
        body = {"prompt": "Two lines.", "project": PROJECT, "judge": False}
        answer = await http.post(f"/api/v1/agents/{AGENT}/runs", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["executionId"]


@pytest.mark.slow
async def test_a_run_started_a_second_after_a_raw_edit_uses_it_in_both_processes(
    tmp_path: Path, database_uri: str, database: Database, models_config: Path, model_server: ModelServer
) -> None:
    variables = {"MONGODB_URI": database_uri, "MODELS_CONFIG": str(models_config), "ADMIN_API_KEY": ADMIN_KEY}
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        started = (stack.enter_async_context(serving(one, SEED_ON_START="true", **variables)) for one in folders)
        processes = await asyncio.gather(*started)
        await asyncio.gather(*map(run_on, processes))

        await database["agents"].update_one({"agentId": AGENT}, {"$set": {"instructionsPrompt": "Speak in rhymes."}})
        edited = time.monotonic()
        await wait_until(lambda: time.monotonic() >= edited + SECONDS_AFTER_THE_EDIT)
        executions = await asyncio.gather(*map(run_on, processes))

    told = {call.execution_id: call.messages[0]["content"] for call in model_server.calls}
    assert all("Speak in rhymes." in told[one] for one in executions)
