"""A run over an API process and two workers, one of which is killed, is one trace with correct parents."""

import asyncio
import json
import secrets
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.database.connection import connect
from app.kit.times import utc_now
from tests.fixtures.exposition import Exposition, scrape
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, plan_of
from tests.fixtures.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.fixtures.processes import ServeProcess, serving
from tests.fixtures.runs import subfolder
from tests.fixtures.services import ADMIN_KEY, PROJECT, write_models_config

CALLER = "b7ad6b7169203331"
FIRST, SECOND = "plot-specialist-001", "theme-specialist-001"


async def metrics_of(process: ServeProcess) -> Exposition:
    """The metrics of a process: each is a target of its own."""
    async with httpx.AsyncClient(base_url=process.url.removesuffix("/readyz")) as http:
        return await scrape(http)


async def owner_of_the_run(workers: list[ServeProcess]) -> ServeProcess:
    """The worker that runs something."""
    for worker in workers:
        if (await metrics_of(worker)).get("executions_running"):
            return worker
    raise AssertionError("No worker runs anything.")


def execution_of(span: ReceivedSpan) -> Any:  # noqa: ANN401 - an attribute
    """The execution that a span is about."""
    return span.attributes.get("dynamic_agents.execution.id")


async def run_and_kill(
    mongod_uri: str, redis_url: str, folder: Path, models: ModelServer, collector: OtlpReceiver, trace_id: str
) -> dict[str, Any]:
    """Start the run, kill its worker between two specialists, and wait for the end; the run."""
    hangs, killed = asyncio.Event(), asyncio.Event()

    async def work(call: Call) -> Reply:
        if not call.is_from(SECOND):
            return "Done."
        if not call.tool_results:
            return completion(None, ("textStatistics", {"text": "One two."}))
        hangs.set()
        await killed.wait()
        return "Done."

    models.on("plan", plan_of((FIRST, "Plot.", []), (SECOND, "Theme.", [FIRST])))
    models.on("work", work)
    uri = mongod_uri.replace("/?", "/test_one_trace?")
    environment = {
        "MONGODB_URI": uri,
        "REDIS_URL": redis_url,
        "ADMIN_API_KEY": ADMIN_KEY,
        "MODELS_CONFIG": str(write_models_config(folder / "models.yaml", models.url, timeout=60)),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "LOG_FORMAT": "json",
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        serve = serving(subfolder(folder, "api"), SERVE_RUNS="false", SEED_ON_START="true", **environment)
        api = await enter(serve)
        workers = [
            await enter(serving(subfolder(folder, name), "worker", TOOL_WORKERS="1", **environment))
            for name in ("one", "two")
        ]
        database = await connect(uri)
        stack.push_async_callback(database.client.close)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "traceparent": f"00-{trace_id}-{CALLER}-01"}
        http = await enter(httpx.AsyncClient(base_url=api.url, headers=headers, timeout=60))
        body = {"prompt": "Write.", "project": PROJECT}
        run = (await http.post("/api/v1/departments/story/runs", json=body)).json()
        await asyncio.wait_for(hangs.wait(), 30)
        await collector.until(f"invoke_agent {FIRST}", "execute_tool")
        victim = await owner_of_the_run(workers)
        victim.process.kill()
        await victim.process.wait()
        expired = {"$set": {"lease.until": utc_now() - timedelta(seconds=1)}}
        await database["agent-executions"].update_one({"executionId": run["executionId"]}, expired)
        killed.set()
        await collector.until("invoke_agent story-head-001", seconds=40)
        [heir] = [worker for worker in workers if worker is not victim]
        assert [(await metrics_of(one)).get("takeovers_total") for one in (api, heir)] == [0, 1]
        return (await http.get(f"/api/v1/executions/{run['executionId']}")).json()


def log_lines(folder: Path, execution_id: str) -> list[dict[str, Any]]:
    """The log lines of all processes about the course of a run."""
    lines = [line for log in folder.glob("*/serve.log") for line in log.read_text().splitlines()]
    return [json.loads(line) for line in lines if f'"{execution_id}"' in line and "run-" in line]


@pytest.mark.slow
async def test_a_run_whose_worker_is_killed_is_one_trace_over_all_processes(
    mongod_uri: str, redis_url: str, tmp_path: Path, model_server: ModelServer
) -> None:
    trace_id = secrets.token_hex(16)
    async with otlp_receiver() as collector:
        run = await run_and_kill(mongod_uri, redis_url, tmp_path, model_server, collector, trace_id)

    spans = {span.span_id: span for span in collector.spans}
    request = collector.named("POST")[0]
    head = collector.named("invoke_agent story-head-001")[0]
    first, second = (collector.named(f"invoke_agent {agent}")[0] for agent in (FIRST, SECOND))
    agents = {execution_of(span): span for span in (head, first, second)}
    below = [span for span in spans.values() if span.name.startswith(("chat", "execute_tool"))]
    wait, takeover = collector.named("wait_in_queue")[0], collector.named("take_over")[0]
    assert run["status"] == "completed"
    assert {span.trace_id for span in spans.values() if not span.name.startswith("GET")} == {trace_id}
    assert {span.parent_id for span in spans.values()} - spans.keys() == {CALLER}
    assert request.parent_id == CALLER
    assert (head.parent_id, wait.parent_id) == (request.span_id, request.span_id)
    assert {span.parent_id for span in (first, second, takeover)} == {head.span_id}
    assert all(span.parent_id == agents[execution_of(span)].span_id for span in below if span.name.startswith("chat"))
    assert collector.named("execute_tool")[0].parent_id == second.span_id
    assert len({request.process, first.process, head.process}) == 3
    assert first.process == collector.named("execute_tool")[0].process != second.process == head.process
    assert head.attributes["dynamic_agents.takeovers"] == 1
    logged = log_lines(tmp_path, run["executionId"])
    assert {line["event"] for line in logged} >= {"run-accepted", "run-completed"}
    assert {line.get("trace_id") for line in logged if line["event"] != "run-taken"} == {trace_id}
