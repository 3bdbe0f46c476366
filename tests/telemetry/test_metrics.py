# pyright: reportPrivateUsage=false
"""Metrics: each series shows the work that was done, in one process and over several, with bounded labels."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect

from app.routers.http.request_context import observe
from app.services.llm.calls import RunPurpose
from app.telemetry import run_metrics
from app.telemetry.metrics import MAX_LABEL_VALUES, OTHER, LabelValues, exposition
from tests.fixtures.exposition import Change, Exposition, scrape
from tests.fixtures.model_server import ModelServer, completion, fault, plan_of
from tests.fixtures.processes import serving
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service, StartService, write_models_config
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.usefixtures("patient_cache")

SERIES = {
    **{"executions": "counter", "execution_duration_seconds": "histogram", "executions_running": "gauge"},
    **{"queue_depth": "gauge", "queue_wait_seconds": "histogram", "takeovers": "counter"},
    **{"model_call_duration_seconds": "histogram", "model_call_errors": "counter", "tokens": "counter"},
    **{"cost_usd": "counter", "cache_requests": "counter", "budget_used_ratio": "gauge", "tool_calls": "counter"},
    **{"tool_wait_seconds": "histogram", "sandbox_workers": "gauge", "sandbox_kills": "counter"},
    **{"event_commit_seconds": "histogram", "event_delivery_seconds": "histogram", "subscribers": "gauge"},
    **{"stream_resyncs": "counter", "approvals_pending": "gauge", "webhook_deliveries": "counter"},
    **{"schedule_lag_seconds": "histogram", "http_request_duration_seconds": "histogram"},
}


@asynccontextmanager
async def changing(http: httpx.AsyncClient) -> AsyncGenerator[Change]:
    """How the metrics of a process change in the context."""
    change = Change(await scrape(http))
    yield change
    change.after = await scrape(http)


async def test_every_series_is_there_from_the_start_for_everyone(shared_service: Service) -> None:
    found = await scrape(shared_service.http)

    assert {name: found.types.get(name) for name in SERIES} == SERIES
    assert found.values("executions_total", "status") == {"completed", "failed", "cancelled"}
    assert found.values("executions_total", "kind") == {"agent", "department", "orchestration"}
    assert found.values("tool_calls_total", "outcome") == {"ok", "error", "timeout", "declined"}
    assert found.values("cache_requests_total", "result") == {"hit", "miss", "bypass"}
    assert found.values("webhook_deliveries_total", "outcome") == {"delivered", "failed"}


async def test_the_series_of_configured_models_are_there_before_their_first_call(
    database_uri: str, tmp_path: Path
) -> None:
    config = tmp_path / "models.yaml"
    names = ["house/one", "house/two", "openai/*"]
    params = {"api_key": "unused", "api_base": "http://127.0.0.1:9/v1"}
    entries = [{"model_name": name, "litellm_params": {"model": "openai/any", **params}} for name in names]
    config.write_text(yaml.safe_dump({"model_list": entries}))

    variables = {"MONGODB_URI": database_uri, "MODELS_CONFIG": str(config)}
    async with serving(tmp_path, **variables) as process, httpx.AsyncClient(base_url=process.url) as http:
        found = await scrape(http)

    series = ("tokens_total", "cost_usd_total", "model_call_duration_seconds_count", "model_call_errors_total")
    assert [found.values(name, "model") for name in series] == [{"house/one", "house/two"}] * 4
    assert found.values("tokens_total", "direction") == {"input", "output", "cache_read", "cache_write"}
    assert found.values("model_call_duration_seconds_count", "purpose") == {purpose.value for purpose in RunPurpose}
    assert {"model-timeout", "model-not-found", "model-answer-invalid"} <= found.values(
        "model_call_errors_total", "code"
    )
    assert all(found.get(name) == 0 for name in series)


async def test_a_department_run_is_counted_to_the_token(shared_service: Service, model_server: ModelServer) -> None:
    model_server.on("plan", plan_of(("plot-specialist-001", "Plot.", []), ("theme-specialist-001", "Theme.", [])))
    model_server.on("work", lambda call: "Done." if call.tool_results else completion(None, *TOOL_CALLS))

    async with changing(shared_service.http) as change:
        run = await shared_service.run_department("story")

    total = run["total"]["tokenUsage"]
    calls = await all_calls(shared_service, run["executionId"])
    assert change.by("executions_total", "kind") == {"department": 1, "agent": 2}
    assert change.by("executions_total", "status") == {"completed": 3}
    assert change.get("execution_duration_seconds_count", kind="department") == 1
    assert change.get("tokens_total", direction="input") == total["input"]
    assert change.get("tokens_total", direction="output") == total["output"]
    assert change.get("cost_usd_total") == pytest.approx(sum(call["costUsd"] or 0 for call in calls), abs=1e-9)
    assert change.get("model_call_duration_seconds_count") == len(model_server.calls)
    purposes = change.by("model_call_duration_seconds_count", "purpose")
    assert purposes.keys() == {"plan", "work", "judge", "review", "report"} & purposes.keys()
    assert change.by("tool_calls_total", "outcome") == {"ok": 1, "error": 1}
    assert change.by("tool_calls_total", "source") == {"custom": 2}
    assert change.get("tool_wait_seconds_count") == 1
    assert change.get("queue_wait_seconds_count") == 1
    assert change.get("event_commit_seconds_count") > 0
    assert change.after.get("executions_running") == 0


TOOL_CALLS: tuple[tuple[str, Any], ...] = (("textStatistics", {"text": "One two."}), ("textStatistics", {"text": 3}))
"""A tool call that succeeds, and one whose input the tool's schema refuses."""


async def all_calls(service: Service, execution_id: str) -> list[dict[str, Any]]:
    """The ledger rows of a tree."""
    answer = await service.http.get(f"/api/v1/executions/{execution_id}/calls", params={"limit": 200})
    return answer.json()["items"]


async def test_failed_model_calls_and_failed_runs_are_counted_by_their_codes(
    shared_service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", fault(400, "This request is refused."))

    async with changing(shared_service.http) as change:
        run = await shared_service.run_agent("plot-specialist-001", judge=False)

    assert run["status"] == "failed"
    assert change.by("executions_total", "status") == {"failed": 1}
    assert sum(change.by("model_call_errors_total", "code").values()) == len(model_server.calls)
    assert change.get("tokens_total") == 0


async def test_hits_misses_and_bypasses_of_the_cache_are_counted(
    start_service: StartService, models_config: Path
) -> None:
    start = start_service(models_config=models_config, response_cache_ttl_seconds=60)
    async with start as service, changing(service.http) as change:
        for cache in (True, True, False):
            await service.run_agent("plot-specialist-001", judge=False, cache=cache)

    assert change.by("cache_requests_total", "result") == {"miss": 1, "hit": 1, "bypass": 1}


async def test_running_executions_and_subscribers_are_shown_and_deliveries_timed(
    shared_service: Service, model_server: ModelServer
) -> None:
    http, go_on = shared_service.http, asyncio.Event()

    async def work(_: object) -> str:
        await go_on.wait()
        return "Done."

    model_server.on("work", work)
    body = {"prompt": "Write.", "project": PROJECT, "judge": False}
    run = (await http.post("/api/v1/agents/plot-specialist-001/runs", json=body)).json()
    headers = {"X-API-Key": ADMIN_KEY}
    async with changing(http) as change, connect(shared_service.websocket_url, additional_headers=headers) as socket:
        await socket.send(json.dumps({"type": "subscribe", "executionId": run["executionId"]}))
        while json.loads(await socket.recv())["type"] != "agent-start":
            pass
        await wait_until(lambda: bool(model_server.calls), 10)
        during = await scrape(http)
        go_on.set()
        while json.loads(await socket.recv())["type"] != "execution-end":
            pass

    assert during.get("executions_running") == 1
    assert change.after.get("executions_running") == 0
    assert (
        during.get("subscribers", transport="websocket") == change.before.get("subscribers", transport="websocket") + 1
    )
    assert change.get("event_delivery_seconds_count") > 0


async def test_the_queue_and_pending_approvals_are_shown_with_the_most_exhausted_budget_of_each_scope(
    start_service: StartService, models_config: Path
) -> None:
    async with start_service(models_config=models_config, serve_runs=False) as service:
        http, database = service.http, service.services.database
        body = {"prompt": "Write.", "project": PROJECT}
        for _ in range(3):
            assert (await http.post("/api/v1/agents/plot-specialist-001/runs", json=body)).status_code == 202
        for agent, used in (("plot-specialist-001", 20), ("theme-specialist-001", 50)):
            await http.put(f"/api/v1/budgets/agent:{agent}", json={"maxTokens": 100, "period": "total"})
            await database["agent-budgets"].update_one({"scope": f"agent:{agent}"}, {"$set": {"usedTokens": used}})
        stand = ["pending", "pending", "approved"]
        approvals = [{"approvalId": f"appr_{place}", "status": status} for place, status in enumerate(stand)]
        await database["agent-approvals"].insert_many(approvals)

        found = await scrape(http)

    assert (found.get("queue_depth"), found.get("approvals_pending")) == (3, 2)
    ratios = {scope: found.get("budget_used_ratio", scope_type=scope) for scope in ("agent", "project", "global")}
    assert ratios == {"agent": 0.5, "project": 0, "global": 0}


async def test_implausible_usage_breaks_no_run(shared_service: Service, model_server: ModelServer) -> None:
    answer = completion("Done.") | {"usage": {"prompt_tokens": -7, "completion_tokens": 5, "total_tokens": -2}}
    model_server.on("work", answer)

    async with changing(shared_service.http) as change:
        run = await shared_service.run_agent("plot-specialist-001", judge=False)

    assert run["status"] == "completed"
    assert change.get("tokens_total") == run["tokenUsage"]["total"] >= 0


async def test_routes_are_shown_by_their_templates_and_addresses_of_clients_are_not(shared_service: Service) -> None:
    http = shared_service.http

    async with changing(http) as change:
        await http.get("/api/v1/agents/plot-specialist-001")
        await http.get("/api/v1/agents/there-is-none-001")
        await http.get("/nothing/here")
        await http.request("FOO", "/api/v1/agents")

    name = "http_request_duration_seconds_count"
    assert change.get(name, route="/api/v1/agents/{agent_id}", method="GET", status="200") == 1
    assert change.get(name, route="/api/v1/agents/{agent_id}", method="GET", status="404") == 1
    assert "plot-specialist-001" not in " ".join(change.after.values(name, "route"))
    assert change.after.values(name, "method") <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER}


def test_a_thousand_hostile_models_codes_paths_and_methods_create_a_bounded_number_of_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for metric in ("TOKENS", "COST", "MODEL_ERRORS", "MODEL_SECONDS"):
        original = getattr(run_metrics, metric)
        labels = original._labelnames
        monkeypatch.setattr(
            run_metrics, metric, type(original)(f"hostile_{metric.lower()}", "x", labels, registry=None)
        )
    monkeypatch.setattr(run_metrics, "_models", LabelValues())
    monkeypatch.setattr(run_metrics, "_codes", LabelValues())
    before = Exposition.of(exposition().decode()).values("http_request_duration_seconds_count", "route")

    for number in range(1000):
        text = f'"}}\\n{number}\n\u202e' + "x" * number
        row = {"cached": False, "model": text, "purpose": "work", "durationMs": 1, "costUsd": 1, "errorCode": text}
        run_metrics.record_calls([row | dict.fromkeys(run_metrics.TOKEN_FIELDS, 1)])
        observe({"type": "http", "path": f"/api/v1/{text}", "method": text}, 404, 0.1)

    samples = [sample for metric in run_metrics.TOKENS.collect() for sample in metric.samples]
    errors = [sample for metric in run_metrics.MODEL_ERRORS.collect() for sample in metric.samples]
    after = Exposition.of(exposition().decode()).values("http_request_duration_seconds_count", "route")
    assert len({sample.labels["model"] for sample in samples}) == MAX_LABEL_VALUES + 1
    assert len({sample.labels["code"] for sample in errors}) == MAX_LABEL_VALUES + 1
    assert len(errors) <= 2 * (MAX_LABEL_VALUES + 1)
    assert after - before <= {"unmatched"}


def test_a_label_has_a_bounded_number_of_values() -> None:
    values = LabelValues(most=2)

    shown = [values.shown(name) for name in ("a", "b", "c", "a", "d")]

    assert shown == ["a", "b", OTHER, "a", OTHER]


async def test_the_sums_over_an_api_process_and_two_workers_are_the_whole(
    mongod_uri: str, redis_url: str, tmp_path: Path, model_server: ModelServer
) -> None:
    environment = {
        "MONGODB_URI": mongod_uri.replace("/?", "/test_metrics?"),
        "REDIS_URL": redis_url,
        "ADMIN_API_KEY": ADMIN_KEY,
        "MODELS_CONFIG": str(write_models_config(tmp_path / "models.yaml", model_server.url)),
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        api = await enter(serving(tmp_path, SERVE_RUNS="false", SEED_ON_START="true", **environment))
        workers = [await enter(serving(tmp_path, "worker", **environment)) for _ in range(2)]
        addresses = [api.url, *(worker.url.removesuffix("/readyz") for worker in workers)]
        clients = [await enter(httpx.AsyncClient(base_url=url, timeout=40)) for url in addresses]
        clients[0].headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        body = {"prompt": "Write.", "project": PROJECT, "judge": False}
        path, waiting = "/api/v1/agents/plot-specialist-001/runs", {"Prefer": "wait=30"}
        answers = await asyncio.gather(*(clients[0].post(path, json=body, headers=waiting) for _ in range(8)))
        found = [await scrape(client) for client in clients]

    def whole(name: str, **labels: str) -> float:
        return sum(one.get(name, **labels) for one in found)

    assert [answer.json()["status"] for answer in answers] == ["completed"] * 8
    assert whole("executions_total", kind="agent", status="completed") == 8
    assert whole("tokens_total") == 15 * len(model_server.calls)
    assert whole("queue_wait_seconds_count") == 8 + whole("takeovers_total")
    assert found[0].get("executions_total") == 0
    assert {one.get("queue_depth") for one in found} == {0}
