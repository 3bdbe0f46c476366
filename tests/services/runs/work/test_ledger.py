"""The ledger: every attempt is a row, and the rows add up to what the model server counted."""

import random
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures.model_server import (
    Call,
    Json,
    ModelServer,
    Reply,
    all_goes_well,
    completion,
    fault,
    review,
)
from tests.fixtures.runs import CATALOGUE_MODELS, first_then, pause_less
from tests.fixtures.services import Service, StartService

DEPARTMENT = "story"
INPUT_PRICE, OUTPUT_PRICE = 3e-6, 1.5e-5
TOKENS = ("inputTokens", "outputTokens")


@pytest.fixture
async def priced(
    start_service: StartService,
    model_server: ModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[Service]:
    """A service whose models have prices and are called again when they fail."""
    prices = {"input_cost_per_token": INPUT_PRICE, "output_cost_per_token": OUTPUT_PRICE}
    rows = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/scripted-{place}",
                "api_base": f"{model_server.url}/v1",
                "api_key": "k",
            },
            "model_info": {**prices, "max_input_tokens": 100_000},
        }
        for place, name in enumerate(CATALOGUE_MODELS)
    ]
    settings = {"num_retries": 4, "timeout": 20, "disable_cooldowns": True}
    config = tmp_path / "models.yaml"
    config.write_text(yaml.safe_dump({"model_list": rows, "router_settings": settings}))
    async with start_service(models_config=config) as service:
        pause_less(service, monkeypatch, 0.001)
        yield service


@dataclass
class Counting:
    """A model server's own account of what it answered."""

    chance: random.Random
    billed: Counter[str] = field(default_factory=Counter[str])
    requests: int = 0

    def count(self, whole: Json) -> Json:
        """Give an answer a random usage, and count it."""
        usage = {"prompt_tokens": self.chance.randint(1, 5000), "completion_tokens": self.chance.randint(1, 900)}
        self.billed.update(usage)
        return whole | {"usage": usage | {"total_tokens": sum(usage.values())}}

    def answer(self, call: Call) -> Reply:
        """Answer well, or fail, or answer something that is billed and cannot be used."""
        self.requests += 1
        chance = self.chance.random()
        if chance < 0.1:
            return fault(429, "slow down")
        if chance < 0.15:
            return fault(500, "broken")
        if chance < 0.25:
            return self.count(completion(""))
        if chance < 0.4 and call.purpose in ("plan", "judge", "review"):
            return self.count(completion("I would rather not say."))
        if chance < 0.5 and call.purpose == "work" and not call.tool_results:
            return self.count(completion("Let me see.", ("textStatistics", {"text": "One."})))
        if call.purpose == "review" and chance < 0.7:
            return self.count(completion(review("revision-needed", "Shorter.")))
        reply = all_goes_well(call)
        assert isinstance(reply, str)
        return self.count(completion(reply))


async def rows_of(service: Service, execution_id: str) -> list[Json]:
    """All ledger rows of an execution, page by page."""
    rows: list[Json] = []
    cursor: str | None = None
    while True:
        params: dict[str, Any] = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        answer = await service.http.get(f"/api/v1/executions/{execution_id}/calls", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            assert page["total"] == len(rows)
            return rows


def tokens_of(rows: list[Json]) -> Json:
    """The sums of some rows in the form of `tokenUsage`."""
    given, made = (sum(row[name] for row in rows) for name in TOKENS)
    return {"input": given, "output": made, "total": given + made, "cacheRead": 0, "cacheWrite": 0}


@pytest.mark.parametrize("seed", range(6))
async def test_the_rows_of_a_department_run_add_up_to_what_the_model_server_counted(
    priced: Service, model_server: ModelServer, seed: int
) -> None:
    counting = Counting(random.Random(seed))  # noqa: S311 - repeatable
    model_server.on("*", counting.answer)

    done = await priced.run_department(DEPARTMENT, maxRevisions=2, tags=["a", "b"])

    rows = await rows_of(priced, done["executionId"])
    assert len({row["callId"] for row in rows}) == len(rows)
    assert sum(row["inputTokens"] for row in rows) == counting.billed["prompt_tokens"]
    assert sum(row["outputTokens"] for row in rows) == counting.billed["completion_tokens"]
    attempts = {row.get("batchId") or row["callId"] for row in rows}
    assert len(attempts) == counting.requests
    cost = counting.billed["prompt_tokens"] * INPUT_PRICE + counting.billed["completion_tokens"] * OUTPUT_PRICE
    assert sum(row["costUsd"] for row in rows) == pytest.approx(cost, abs=1e-9)
    total = done["total"]
    assert total["tokenUsage"] == tokens_of(rows)
    assert total["costUsd"] == pytest.approx(cost, abs=1e-9)
    tree = (await priced.http.get("/api/v1/executions", params={"rootExecutionId": done["executionId"]})).json()[
        "items"
    ]
    assert total["executions"] == len(tree)
    for execution in tree:
        own = [row for row in rows if row["executionId"] == execution["executionId"]]
        assert execution["tokenUsage"] == tokens_of(own)
        assert execution["costUsd"] == pytest.approx(sum(row["costUsd"] for row in own), abs=1e-9)
        assert execution["tags"] == ["a", "b"]
        if execution["executionId"] != done["executionId"]:
            assert await rows_of(priced, execution["executionId"]) == own
            assert execution["total"] is None


async def test_a_row_says_what_was_called_for_whom_and_how_it_ended(priced: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(fault(429, "slow down"), "Done."))

    done = await priced.run_agent("plot-specialist-001", judge=False)

    failed, answered = await rows_of(priced, done["executionId"])
    common = {
        "executionId": done["executionId"],
        "rootExecutionId": done["executionId"],
        "agent": "plot-specialist-001",
        "department": "story",
        "project": done["project"],
        "apiKey": "bootstrap",
        "purpose": "work",
        "priceStatus": "priced",
        "cached": False,
        "savedTokens": 0,
    }
    assert {name: failed[name] for name in common} == common
    assert {name: answered[name] for name in common} == common
    assert (failed["outcome"], failed["errorCode"], failed["attempt"]) == ("error", "model-rate-limited", 1)
    assert (failed["inputTokens"], failed["costUsd"], failed["usageStatus"]) == (0, 0, "missing")
    assert (answered["outcome"], answered["errorCode"], answered["attempt"]) == ("ok", None, 2)
    assert (answered["inputTokens"], answered["outputTokens"], answered["usageStatus"]) == (10, 5, "reported")
    assert answered["costUsd"] == pytest.approx(10 * INPUT_PRICE + 5 * OUTPUT_PRICE, abs=1e-12)
    events = {event["seq"]: event for event in await priced.events(done["executionId"])}
    assert (events[failed["seq"]]["type"], events[answered["seq"]]["type"]) == ("agent-retry", "agent-response")
    assert [row["callId"] for row in events[failed["seq"]]["calls"]] == [failed["callId"]]


async def test_streamed_and_plain_calls_have_equal_rows(priced: Service, model_server: ModelServer) -> None:
    model_server.on("work", completion("Done.") | {"usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    runs = [await priced.run_agent("plot-specialist-001", judge=False, deltas=deltas) for deltas in (False, True)]

    plain, streamed = [await rows_of(priced, run["executionId"]) for run in runs]
    differing = ("callId", "executionId", "rootExecutionId", "startedAt", "durationMs")
    assert [[(n, v) for n, v in row.items() if n not in differing] for row in plain] == [
        [(n, v) for n, v in row.items() if n not in differing] for row in streamed
    ]


@pytest.mark.parametrize(
    ("usage", "status", "tokens"),
    [
        ({"prompt_tokens": -5, "completion_tokens": 3}, "implausible", (0, 3)),
        ({"prompt_tokens": 10**15, "completion_tokens": 3}, "implausible", (0, 3)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, "missing", (0, 0)),
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 50}},
            "inconsistent",
            (5, 3),
        ),
    ],
    ids=["negative", "absurd", "missing", "inconsistent"],
)
async def test_usage_that_makes_no_sense_is_marked(
    priced: Service, model_server: ModelServer, usage: Json, status: str, tokens: tuple[int, int]
) -> None:
    model_server.on("work", completion("Done.") | {"usage": usage})

    done = await priced.run_agent("plot-specialist-001", judge=False)

    (row,) = await rows_of(priced, done["executionId"])
    assert (row["usageStatus"], row["inputTokens"], row["outputTokens"]) == (status, *tokens)
    reported = (row["reportedUsage"] or {}).get("prompt_tokens")
    assert reported == (str(usage["prompt_tokens"]) if status == "implausible" else None)


async def test_a_forged_cursor_is_refused(priced: Service) -> None:
    done = await priced.run_agent("plot-specialist-001", judge=False)

    for cursor in ("x", "MTIz", "é", "LTEuMA=="):
        answer = await priced.http.get(f"/api/v1/executions/{done['executionId']}/calls", params={"cursor": cursor})
        assert answer.status_code == 422, cursor
