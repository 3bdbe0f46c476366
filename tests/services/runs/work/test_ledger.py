"""The ledger: every attempt is a row, and the rows add up to what the model server counted."""

from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures.billing import (
    INPUT_PRICE,
    OUTPUT_PRICE,
    Account,
    Behavior,
    check_books,
    rows_of,
    tokens_of,
    write_priced_models,
)
from tests.fixtures.model_server import Json, ModelServer, completion, fault
from tests.fixtures.runs import first_then, pause_less
from tests.fixtures.services import Service, StartService
from tests.services.runs.reviewing import send_review

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("patient_cache")]

DEPARTMENT = "story"
HISTORIES = st.lists(st.sampled_from(Behavior), max_size=40)


def search(examples: int) -> settings:
    """A search of so many histories; a finding is printed as found, because each try to shrink it is a run."""
    unharmed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(max_examples=examples, deadline=None, suppress_health_check=unharmed, phases=phases)


@pytest.fixture
async def priced(
    start_service: StartService, model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Service]:
    """A service whose models have prices and are called again when they fail."""
    async with start_service(models_config=write_priced_models(tmp_path / "models.yaml", model_server.url)) as service:
        pause_less(service, monkeypatch, 0.001)
        yield service


async def live_through(
    service: Service, model_server: ModelServer, history: list[Behavior], seed: int, again: list[Behavior]
) -> None:
    """A department run, a revision that a person asks for, and the books after each."""
    account = Account([*history], Random(seed))  # noqa: S311 - repeatable
    model_server.on("*", account.answer)

    done = await service.run_department(DEPARTMENT, maxRevisions=2, tags=["a", "b"])

    root_id = done["executionId"]
    await check_books(service, root_id, account)
    if done["status"] != "completed":
        return
    before, account.behaviors = account.requests, [*again]
    assert (await send_review(service, root_id, "revision-needed", "Once more.")).status_code == 202
    await service.services.engine.wait_for_end(root_id)
    assert account.requests > before
    rows = await check_books(service, root_id, account)
    for execution_id in {row["executionId"] for row in rows} - {root_id}:
        assert await rows_of(service, execution_id) == [row for row in rows if row["executionId"] == execution_id]


@search(10)
@given(HISTORIES, st.integers(0, 2**16), HISTORIES)
async def test_the_books_of_random_histories_agree_with_those_of_the_model_server(
    priced: Service, model_server: ModelServer, history: list[Behavior], seed: int, again: list[Behavior]
) -> None:
    await live_through(priced, model_server, history, seed, again)


@pytest.mark.long
@search(300)
@given(HISTORIES, st.integers(0, 2**16), HISTORIES)
async def test_the_books_of_many_random_histories_agree(
    priced: Service, model_server: ModelServer, history: list[Behavior], seed: int, again: list[Behavior]
) -> None:
    await live_through(priced, model_server, history, seed, again)


async def test_a_cached_call_reports_its_savings(
    start_service: StartService, model_server: ModelServer, tmp_path: Path
) -> None:
    account = Account()
    model_server.on("*", account.answer)
    models = write_priced_models(tmp_path / "models.yaml", model_server.url)
    async with start_service(models_config=models, response_cache_ttl_seconds=60) as service:
        first = await service.run_department(DEPARTMENT)
        await check_books(service, first["executionId"], account)

        second = await service.run_department(DEPARTMENT)

        rows = await rows_of(service, second["executionId"])
        saved = {row["purpose"] for row in rows if row["cached"]}
        asked = [row for row in rows if not row["cached"]]
        assert {"plan", "work", "review", "report"} <= saved
        assert {row["purpose"] for row in asked} <= {"judge"}  # of outputs that were judged in other groups before
        for row in rows:
            assert (row["cached"], row["cacheStatus"]) in ((True, "hit"), (False, "miss"))
            assert row["cached"] == (row["savedTokens"] > 0) == (row["costUsd"] == 0)
        before = {(row["agent"], row["purpose"]): row for row in await rows_of(service, first["executionId"])}
        for row in rows:
            if row["cached"] and row["purpose"] in ("plan", "work", "report"):
                paid = before[row["agent"], row["purpose"]]
                assert row["savedTokens"] == paid["inputTokens"] + paid["outputTokens"]
                assert row["savedCostUsd"] == pytest.approx(paid["costUsd"], abs=1e-9)
        assert second["total"]["tokenUsage"] == tokens_of(asked)


async def test_a_row_shows_the_call_its_execution_and_its_outcome(priced: Service, model_server: ModelServer) -> None:
    model_server.on("work", first_then(fault(429, "slow down"), "Done."))

    done = await priced.run_agent("plot-specialist-001", judge=False)

    assert done["retries"] == 1
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
