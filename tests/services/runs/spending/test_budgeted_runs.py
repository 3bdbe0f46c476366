"""Runs under budgets: reserved before each call, settled after it, stopped at the limit with what they produced."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.fixtures.http_api import assert_problem
from tests.fixtures.model_server import Call, Json, ModelServer, completion, one_does_all
from tests.fixtures.runs import (
    ADA,
    DEPARTMENT,
    HEAD,
    PRICED_MODEL,
    Gate,
    all_events,
    calls_tool,
    nodes_of,
    of_type,
    stored_tree,
    tree_of,
    until,
)
from tests.fixtures.services import PROJECT, Service

BUDGETS = "/api/v1/budgets"


@pytest.fixture(autouse=True)
async def only_budgets_of_the_test(service: Service) -> AsyncGenerator[None]:
    """No budget outlives its test."""
    yield
    await service.services.database["agent-budgets"].delete_many({})
    await service.services.budgets.known.refresh()


async def put(service: Service, scope: str, **body: Any) -> Json:  # noqa: ANN401 - any field of the body
    """Set a budget, of the period `total` unless another one is named."""
    answer = await service.http.put(f"{BUDGETS}/{scope}", json={"period": "total", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def get(service: Service, scope: str) -> Json:
    """A budget as it stands."""
    return (await service.http.get(f"{BUDGETS}/{scope}")).json()


def large(text: str, tokens: int) -> Json:
    """A completion that used this many output tokens."""
    return completion(text) | {"usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}}


async def test_every_scope_of_a_call_counts_its_usage(service: Service, model_server: ModelServer) -> None:
    scopes = ("global", f"project:{PROJECT}", f"department:{DEPARTMENT}", f"agent:{ADA}", "key:bootstrap")
    for scope in scopes:
        await put(service, scope, maxTokens=10**6, maxCostUsd=1)

    run = await service.run_agent(ADA, model=PRICED_MODEL)

    assert run["status"] == "completed", run["error"]
    assert len(model_server.calls) == 2
    for scope in scopes:
        budget = await get(service, scope)
        assert (budget["usedTokens"], budget["reservedTokens"], budget["reservedCostUsd"]) == (30, 0, 0), scope
        assert budget["usedCostUsd"] == run["costUsd"] == pytest.approx(0.00004, abs=1e-12), scope


async def test_the_worst_case_is_reserved_while_a_call_runs(service: Service, model_server: ModelServer) -> None:
    gate = Gate()
    model_server.on("work", lambda _: gate.passed("Done."))
    await put(service, "global", maxTokens=10**6, maxCostUsd=1)
    accepted = await service.http.post(
        f"/api/v1/agents/{ADA}/runs", json={"prompt": "x", "project": PROJECT, "model": PRICED_MODEL, "judge": False}
    )
    await until(lambda: gate.waiting == 1)

    held = await get(service, "global")
    gate.open()
    await service.services.engine.wait_for_end(accepted.json()["executionId"])

    sent = sum(len(str(message["content"]).encode()) for message in model_server.calls[0].messages)
    assert held["usedTokens"] == 0
    assert sent + 4096 < held["reservedTokens"] < sent + 4096 + 5000
    assert held["reservedCostUsd"] == pytest.approx((held["reservedTokens"] - 4096) * 1e-6 + 4096 * 2e-6)
    assert (await get(service, "global"))["reservedTokens"] == 0


async def test_a_run_at_the_limit_stops_and_keeps_its_last_text(service: Service, model_server: ModelServer) -> None:
    def work(call: Call) -> Json:
        if call.tool_results:
            return large("never", 1)
        return (
            large("A first thought.", 50_000)
            | completion("A first thought.", ("echo", {"x": 1}))
            | {"usage": {"prompt_tokens": 10, "completion_tokens": 50_000, "total_tokens": 50_010}}
        )

    model_server.on("work", work)
    await put(service, f"agent:{ADA}", maxTokens=52_000)

    run = await service.run_agent(ADA)

    assert (run["status"], run["stopReason"], run["error"]["code"]) == ("failed", "budget", "budget-exhausted")
    assert run["output"] == {"text": "A first thought.", "data": None}
    assert len(model_server.calls) == 1
    last = (await all_events(service, run["executionId"]))[-1]
    assert (last["type"], last["stopReason"], last["error"]["code"]) == ("agent-error", "budget", "budget-exhausted")
    budget = await get(service, f"agent:{ADA}")
    assert (budget["usedTokens"], budget["reservedTokens"]) == (50_010, 0)


async def test_after_a_top_up_the_stopped_run_continues_from_its_checkpoint(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", calls_tool("echo", {"x": 1}, then="All of it."))
    model_server.on("judge", lambda _: pytest.fail("not judged"))
    await put(service, "global", maxTokens=11_000)
    first = large("", 9_000) | {"choices": completion("A start.", ("echo", {"x": 1}))["choices"]}
    model_server.on("work", lambda call: "All of it." if call.tool_results else first)
    stopped = await service.run_agent(ADA, judge=False)
    assert (stopped["stopReason"], len(model_server.calls)) == ("budget", 1)
    retry = f"/api/v1/executions/{stopped['executionId']}/retry"
    assert_problem(await service.http.post(retry, params={"from": "checkpoint"}), 429, "budget-exhausted")

    await put(service, "global", maxTokens=100_000)
    answer = await service.http.post(retry, params={"from": "checkpoint"}, headers={"Prefer": "wait=30"})

    assert (answer.json()["status"], answer.json()["output"]["text"]) == ("completed", "All of it.")
    assert len(model_server.calls) == 2
    assert (await get(service, "global"))["usedTokens"] == 9_010 + 15


async def test_a_department_stops_as_a_whole_and_keeps_its_specialists_outputs(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("plan", one_does_all)
    model_server.on("work", large("The chapter.", 20_000))
    await put(service, "global", maxTokens=26_000)

    run = await service.run_department(DEPARTMENT)

    assert (run["status"], run["stopReason"], run["error"]["code"]) == ("failed", "budget", "budget-exhausted")
    assert "The chapter." in run["output"]["text"]
    assert run["output"]["report"]["specialists"][0]["agentId"] == ADA
    documents = await stored_tree(service, run["executionId"])
    assert {one["status"] for one in documents.values()} == {"failed"}
    assert {one["stopReason"] for one in documents.values()} == {"budget"}
    assert documents[ADA]["output"]["text"] == "The chapter."
    assert (await get(service, "global"))["reservedTokens"] == 0


async def test_a_specialist_without_budget_ends_the_tree_as_budget(service: Service, model_server: ModelServer) -> None:
    model_server.on("work", lambda call: "Good work.")
    await put(service, f"agent:{ADA}", maxTokens=10)

    run = await service.run_department(DEPARTMENT)

    assert (run["stopReason"], run["error"]["code"]) == ("budget", "budget-exhausted")
    assert f"agent:{ADA}" in run["error"]["message"]
    assert not [call for call in model_server.calls if call.purpose == "report"]


async def test_an_orchestration_stops_as_a_whole(service: Service, model_server: ModelServer) -> None:
    await put(service, f"department:{DEPARTMENT}", maxTokens=10)

    run = await service.run_orchestration(DEPARTMENT)

    assert (run["status"], run["stopReason"], run["error"]["code"]) == ("failed", "budget", "budget-exhausted")
    assert {node["status"] for node in nodes_of(await tree_of(service, run["executionId"]))} == {"failed"}


@pytest.mark.parametrize("scope", ["global", f"project:{PROJECT}", "key:bootstrap", f"agent:{HEAD}"])
async def test_at_the_limit_new_runs_are_refused(service: Service, model_server: ModelServer, scope: str) -> None:
    await put(service, scope, maxTokens=10**6, period="day")
    await service.run_agent(HEAD, judge=False)
    model_server.calls.clear()
    await put(service, scope, maxTokens=1, period="day")

    for path in (f"agents/{HEAD}/runs", f"departments/{DEPARTMENT}/runs"):
        answer = await service.http.post(f"/api/v1/{path}", json={"prompt": "x", "project": PROJECT})
        assert_problem(answer, 429, "budget-exhausted")
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert model_server.calls == []


async def test_a_total_budget_names_no_time_to_retry(service: Service) -> None:
    await put(service, "global", maxTokens=10**6)
    await service.run_agent(ADA, judge=False)
    await put(service, "global", maxTokens=1)

    answer = await service.http.post(f"/api/v1/agents/{ADA}/runs", json={"prompt": "x", "project": PROJECT})

    assert_problem(answer, 429, "budget-exhausted")
    assert "Retry-After" not in answer.headers


async def test_the_price_must_be_known_under_a_budget_in_dollars(service: Service, model_server: ModelServer) -> None:
    await put(service, "global", maxCostUsd=100)

    run = await service.run_agent(ADA)

    assert (run["status"], run["error"]["code"]) == ("failed", "budget-unpriced")
    assert model_server.calls == []
    assert (await service.run_agent(ADA, model=PRICED_MODEL))["status"] == "completed"


async def test_a_run_keeps_to_its_own_limits(service: Service, model_server: ModelServer) -> None:
    first = large("", 9_000) | {"choices": completion("A start.", ("echo", {"x": 1}))["choices"]}
    model_server.on("work", lambda call: "All of it." if call.tool_results else first)

    stopped = await service.run_agent(ADA, maxTokens=11_000)
    priced = await service.run_agent(ADA, maxCostUsd=0.02, model=PRICED_MODEL)
    unpriced = await service.run_agent(ADA, maxCostUsd=0.02)
    enough = await service.run_agent(ADA, maxTokens=100_000)

    for run in (stopped, priced):
        assert (run["stopReason"], run["error"]["code"]) == ("budget", "budget-exhausted")
        assert run["output"]["text"] == "A start."
    assert unpriced["error"]["code"] == "budget-unpriced"
    assert enough["status"] == "completed"


async def test_the_alert_comes_once_in_the_execution_that_reached_the_mark(
    service: Service, model_server: ModelServer
) -> None:
    model_server.on("work", large("Done.", 40_000))
    await put(service, f"agent:{ADA}", maxTokens=100_000, alertAt=0.5, period="month")

    runs = [await service.run_agent(ADA, judge=False) for _ in range(3)]

    alerts = [of_type(await all_events(service, run["executionId"]), "budget-alert") for run in runs]
    assert [len(found) for found in alerts] == [0, 1, 0]
    told = {name: alerts[1][0][name] for name in ("scope", "period", "usedTokens", "maxTokens", "maxCostUsd", "ratio")}
    assert told == {
        "scope": f"agent:{ADA}",
        "period": "month",
        "usedTokens": 80_020,
        "maxTokens": 100_000,
        "maxCostUsd": None,
        "ratio": 0.8002,
    }
    assert alerts[1][0]["usedCostUsd"] is None


async def test_failed_calls_and_cancelled_runs_leave_nothing_reserved(
    service: Service, model_server: ModelServer
) -> None:
    gate = Gate()
    model_server.on("work", lambda _: gate.passed("Done."))
    await put(service, "global", maxTokens=10**6)
    accepted = await service.http.post(f"/api/v1/agents/{ADA}/runs", json={"prompt": "x", "project": PROJECT})
    await until(lambda: gate.waiting == 1)
    assert (await get(service, "global"))["reservedTokens"] > 4096
    await service.http.post(f"/api/v1/executions/{accepted.json()['executionId']}/cancel")
    gate.open()

    async def nothing_reserved() -> bool:
        return (await get(service, "global"))["reservedTokens"] == 0

    for _ in range(100):
        if await nothing_reserved():
            break
    assert await nothing_reserved()
    assert (await get(service, "global"))["usedTokens"] == 0


async def test_without_budgets_no_call_queries_the_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:  # noqa: ANN401 - whatever it is called with
        pytest.fail("the database was asked")

    await service.services.budgets.known.refresh()
    for name in ("reserve", "settle", "read", "release_tree"):
        monkeypatch.setattr(type(service.services.budgets.store), name, refuse)

    assert (await service.run_department(DEPARTMENT))["status"] == "completed"
