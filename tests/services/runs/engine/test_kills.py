# pyright: reportPrivateUsage=false
"""Real processes that fail in a run, and clocks that are wrong: nothing is stored twice, nothing accepted is lost."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.database.connection import Raw
from app.kit import times
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.work import execution_run
from tests.fixtures.model_server import Call, ModelServer, completion
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import (
    ADA,
    StartProcess,
    accept,
    all_events,
    expire,
    finished,
    gapless,
    process_settings,
    stored,
    stored_once,
    subfolder,
    until,
)
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service

pytestmark = pytest.mark.usefixtures("lone_processes")


def work(call: Call) -> str | Raw:
    return "Done." if call.tool_results else completion("Hm.", ("echo", {"n": 1}))


@asynccontextmanager
async def failing_worker(
    service: Service, folder: Path, model_server: ModelServer, failpoint: str, command: str = "worker", **settings: str
) -> AsyncGenerator[ServeProcess]:
    """A process that takes one run at a time and fails at a place in it."""
    environment = process_settings(service, folder, model_server)
    async with serving(
        folder, command, **environment, MAX_CONCURRENT_RUNS="1", FAILPOINTS=failpoint, **settings
    ) as process:
        yield process


@pytest.mark.slow
async def test_a_process_that_wakes_up_after_its_lease_stores_nothing(
    service: Service, model_server: ModelServer, start_process: StartProcess, tmp_path: Path
) -> None:
    model_server.on("work", work)
    full = await start_process(RunLimits(max_concurrent=0))
    async with failing_worker(service, subfolder(tmp_path, "zombie"), model_server, "before-commit:pause:2") as zombie:
        execution_id = await accept(service, full, "agent", judge=False)
        await stored_once(service, execution_id, lambda document: document["lastSeq"] == 1)
        stat = Path(f"/proc/{zombie.process.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

        await expire(service, execution_id)
        await start_process()
        ended = await finished(service, execution_id)
        zombie.process.send_signal(signal.SIGCONT)
        readyz = f"{zombie.url}".replace("/readyz", "") + "/readyz"
        async with httpx.AsyncClient(timeout=10) as http:
            answer = await http.get(readyz)

        assert ended["takeovers"] == 1
        assert answer.json()["checks"]["database"] == "ok"
        assert await zombie.stop() == 0
    after = await stored(service, execution_id)
    compared = ended.keys() - {"uncounted", "outbox"}  # the marks of the end, which are counted meanwhile
    assert {name: after.get(name) for name in compared} == {name: ended[name] for name in compared}


@pytest.mark.slow
async def test_a_run_accepted_by_a_process_that_died_before_its_answer_is_found_by_its_key(
    service: Service, model_server: ModelServer, start_process: StartProcess, tmp_path: Path
) -> None:
    model_server.on("work", work)
    path, body = f"/api/v1/agents/{ADA}/runs", {"prompt": "Write.", "project": PROJECT, "judge": False}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "before-the-answer"}
    async with failing_worker(service, subfolder(tmp_path, "api"), model_server, "after-insert:kill", "serve") as api:
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=10) as http:
            with pytest.raises(httpx.TransportError):
                await http.post(path, json=body)
        await api.process.wait()

    again = await service.http.post(path, json=body, headers=headers)
    execution_id = again.json()["executionId"]
    await expire(service, execution_id)
    await start_process()

    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert (await finished(service, execution_id))["status"] == "completed"
    assert len(model_server.calls) == 2


@pytest.mark.slow
async def test_a_process_that_dies_before_a_run_is_stored_has_accepted_nothing(
    service: Service, model_server: ModelServer, tmp_path: Path
) -> None:
    path, body = f"/api/v1/agents/{ADA}/runs", {"prompt": "Write.", "project": PROJECT, "judge": False}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "before-the-insert"}
    before = (await service.http.get("/api/v1/executions")).json()["total"]
    async with failing_worker(service, subfolder(tmp_path, "api"), model_server, "before-insert:kill", "serve") as api:
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=10) as http:
            with pytest.raises(httpx.TransportError):
                await http.post(path, json=body)
        await api.process.wait()

    after = (await service.http.get("/api/v1/executions")).json()["total"]
    again = await service.http.post(path, json=body, headers=headers)

    assert after == before
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (202, None)
    await service.http.post(f"{again.json()['links']['self']}/cancel")


@pytest.mark.slow
async def test_a_run_whose_process_died_before_it_rang_the_queue_is_swept_up(
    service: Service, model_server: ModelServer, start_process: StartProcess, redis_url: str, tmp_path: Path
) -> None:
    model_server.on("work", work)
    path, body = f"/api/v1/agents/{ADA}/runs", {"prompt": "Write.", "project": PROJECT, "judge": False}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "before-the-bell"}
    folder, settings = subfolder(tmp_path, "api"), {"SERVE_RUNS": "false", "REDIS_URL": redis_url}
    async with failing_worker(service, folder, model_server, "after-insert:kill", "serve", **settings) as api:
        async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=10) as http:
            with pytest.raises(httpx.TransportError):
                await http.post(path, json=body)
        await api.process.wait()

    await start_process()
    again = await service.http.post(path, json=body, headers=headers)
    document = await finished(service, again.json()["executionId"])

    assert again.headers["idempotency-replayed"] == "true"
    assert (document["status"], document["takeovers"]) == ("completed", 0)


async def test_an_hour_s_jump_of_a_clock_changes_nothing(
    service: Service, model_server: ModelServer, start_process: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[RunEngine] = []

    def jump(call: Call) -> str | Raw:
        real = times.utc_now
        monkeypatch.setattr(execution_run, "utc_now", lambda: real() + timedelta(hours=1))
        monkeypatch.setattr("app.events.log.tree_log.utc_now", lambda: real() + timedelta(hours=1))
        return work(call)

    model_server.on("work", jump)
    engines += [await start_process(), await start_process()]
    execution_id = await accept(service, engines[0], "agent", judge=False)

    document = await finished(service, execution_id)

    assert (document["status"], document["fence"], document["takeovers"]) == ("completed", 1, 0)
    assert gapless(await all_events(service, execution_id))
