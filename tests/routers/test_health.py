"""Whether the process is up, and whether it can work: also without its database or its models."""

import asyncio
import gc
from pathlib import Path

import httpx
import pytest
import yaml
from pydantic import SecretStr

from app.database import connection as database
from app.database.embedded.mongod import EmbeddedMongod
from tests.fixtures.http_api import assert_problem, open_socket
from tests.fixtures.services import PROJECT, Service, StartService, running_service
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import wait_until

BODY = {"prompt": "Write.", "project": PROJECT}


async def test_a_service_that_can_work_is_up_and_ready_for_everybody(anonymous: httpx.AsyncClient) -> None:
    up = await anonymous.get("/healthz")
    ready = await anonymous.get("/readyz")

    assert (up.status_code, up.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["checks"].values()) == {"ok"}


async def test_load_balancers_may_probe_with_head(anonymous: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await anonymous.head(path)
        refused = await anonymous.post(path)

        assert (answer.status_code, answer.content) == (200, b"")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.slow
async def test_without_its_database_the_service_is_up_not_ready_and_answers_503_to_all_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SERVER_SELECTION_MS", 500)
    mongod = EmbeddedMongod(tmp_path / "mongod")
    uri = await mongod.start()
    try:
        async with (
            running_service(uri, tmp_path / "data", seed_on_start=False) as service,
            open_socket(service) as socket,
        ):
            await mongod.stop()

            up, ready, read, run, told, new = await asyncio.gather(
                service.http.get("/healthz"),
                service.http.get("/readyz"),
                service.http.get("/api/v1/agents"),
                service.http.post("/api/v1/agents/plot-specialist-001/runs", json=BODY),
                socket.ask(type="subscribe", executionId="exec_1"),
                service.http.get("/api/v1/executions", headers={"Authorization": "Bearer a-key-to-look-up"}),
            )
            still_open = await socket.is_open()
    finally:
        await mongod.stop()
        gc.collect()

    assert up.status_code == 200
    assert (ready.status_code, ready.json()["status"]) == (503, "not-ready")
    assert ready.json()["checks"]["database"] != "ok"
    for answer in (read, run, new):
        assert_problem(answer, 503, "database-unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert (told["type"], told["code"]) == ("error", "database-unavailable")
    assert still_open


@pytest.mark.slow
async def test_a_service_without_any_model_keys_starts_and_reports_the_missing_keys(
    start_service: StartService, tmp_path: Path
) -> None:
    config = tmp_path / "keyless.yaml"
    entry = {"model_name": "anthropic/claude-sonnet-4.5", "litellm_params": {"model": "anthropic/claude-sonnet-4-5"}}
    config.write_text(yaml.safe_dump({"model_list": [entry]}))

    async with start_service(models_config=config) as service:
        ready = await service.http.get("/readyz")
        run = await service.http.post("/api/v1/agents/plot-specialist-001/runs", json=BODY)
        models = (await service.http.get("/api/v1/models")).json()

    assert (ready.status_code, ready.json()["status"]) == (503, "not-ready")
    assert ready.json()["checks"]["models"] != "ok"
    problem = assert_problem(run, 409, "model-not-configured")
    assert "ANTHROPIC_API_KEY" in problem["detail"]
    assert [(model["name"], model["usable"]) for model in models["items"]] == [(entry["model_name"], False)]
    assert "ANTHROPIC_API_KEY" in models["items"][0]["problem"]


@pytest.mark.slow
async def test_a_connection_outlives_the_five_seconds_for_which_clients_keep_it(shared_service: Service) -> None:
    async with httpx.AsyncClient(base_url=shared_service.url, limits=httpx.Limits(keepalive_expiry=60)) as http:
        first = await own_end(http)
        await asyncio.sleep(5.5)
        second = await own_end(http)

    assert first == second


async def own_end(http: httpx.AsyncClient) -> object:
    """The client's end of the connection on which it is answered."""
    answer = await http.get("/healthz")
    return answer.extensions["network_stream"].get_extra_info("client_addr")


async def test_a_load_balancer_may_leave_the_queue_out(start_service: StartService, models_config: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    async with start_service(models_config=models_config, redis_url=SecretStr(nowhere), seed_on_start=False) as service:

        async def is_red() -> bool:
            return (await service.http.get("/readyz")).status_code == 503

        await wait_until(is_red, 15)
        without_queue = await service.http.get("/readyz", params={"exclude": "queue"})
        refused = await service.http.get("/readyz", params={"exclude": "database"})

    assert (without_queue.status_code, without_queue.json()["checks"].keys()) == (200, {"database", "runs", "models"})
    assert refused.status_code == 422
