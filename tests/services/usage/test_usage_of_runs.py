"""The usage of real runs is what their ledger rows add up to, within two seconds of their end."""

import time
from pathlib import Path
from typing import Any

import pytest

from app.models.agent_execution import AgentExecution
from tests.fixtures.ledger_rows import History, shown, sums_by
from tests.fixtures.model_server import ModelServer, fault, judgment, plan_of, review
from tests.fixtures.services import Service, StartService, write_models_config
from tests.fixtures.waiting import wait_until

GROUPINGS = ("day", "department", "agent", "model", "purpose", "project", "apiKey", "tag")


async def histories_of(service: Service, root: str, *tags: str) -> list[History]:
    """The ledger rows of each execution of a run tree."""
    answer = await service.http.get(f"/api/v1/executions/{root}/calls", params={"limit": 200})
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in answer.json()["items"]:
        rows.setdefault(row["executionId"], []).append(row)
    return [History(calls, tags=tags) for calls in rows.values()]


async def until_counted(service: Service) -> float:
    """Wait until no execution has a mark; the seconds that it took."""
    executions = service.services.database[AgentExecution.get_collection_name()]
    started = time.monotonic()

    async def is_counted() -> bool:
        return await executions.find_one({"outbox.usage": {"$exists": True}}) is None

    await wait_until(is_counted, seconds=10)
    return time.monotonic() - started


async def assert_counted(service: Service, *histories: History) -> None:
    """Compare every grouping with the rows."""
    for grouping in GROUPINGS:
        answer = (await service.http.get("/api/v1/analytics/usage", params={"groupBy": grouping})).json()
        expected = sums_by(grouping, histories, {}, None, "2000", "3000")
        found = shown(answer["groups"])
        assert found.keys() == expected.keys()
        for key, sums in expected.items():
            assert abs((found[key].cost or 0) - (sums.cost or 0)) < 1e-9
            found[key].cost = sums.cost
        assert found == expected, grouping


@pytest.mark.slow
async def test_a_department_run_with_failures_and_a_person_s_revision_is_counted_exactly(
    start_service: StartService, model_server: ModelServer, tmp_path: Path
) -> None:
    drafts = iter((fault(429, "slow down"), "First.", "Second.", "Third."))
    model_server.on("plan", plan_of(("composer-001", "Compose.", [])))
    model_server.on("work", lambda _: next(drafts))
    model_server.on("judge", lambda _: judgment())
    decisions = iter((review("revision-needed", "More."), review("approved"), review("approved")))
    model_server.on("review", lambda _: next(decisions))
    config = write_models_config(tmp_path / "models.yaml", model_server.url, num_retries=2, disable_cooldowns=True)
    async with start_service(models_config=config) as service:
        done = await service.run_department("audio", tags=["night", "draft"])
        root = done["executionId"]

        seconds = await until_counted(service)

        assert seconds < 2
        before = await histories_of(service, root, "night", "draft")
        await assert_counted(service, *before)
        child = done["output"]["report"]["specialists"][0]["executionId"]
        revision = {"status": "revision-needed", "notes": "Louder."}
        answer = await service.http.post(f"/api/v1/executions/{child}/review", json=revision)
        assert answer.status_code == 202, answer.text

        async def has_ended_again() -> bool:
            events = await service.events(root)
            return sum(event["type"] == "agent-complete" for event in events if event["executionId"] == root) == 2

        await wait_until(has_ended_again, seconds=15)
        await until_counted(service)
        after = await histories_of(service, root, "night", "draft")
        assert sum(len(one.rows) for one in after) > sum(len(one.rows) for one in before)
        await assert_counted(service, *after)
