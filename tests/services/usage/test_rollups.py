"""Roll-ups hold what the rows of the ledger add up to, whoever counts them and however often an execution ends."""

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.database.connection import Database
from app.events.outbox import Outbox
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution
from app.models.usage_bucket import UsageBucket, UsageDetail, UsageHour
from app.routers.analytics import FullHour
from app.services.usage.analytics import UsageFilter, UsageGrouping, UsageQueries
from app.services.usage.rollups import UsageRollups
from tests.fixtures.ledger_rows import History, Sums, count, row_of, shown, store, sums_by

HOUR: TypeAdapter[datetime] = TypeAdapter(FullHour)
PROJECTS = ("66f0a1b2c3d4e5f601234567", "66f0a1b2c3d4e5f601234568", None)
ORIGINS = (("story", "plot-specialist-001"), ("story", "story-head-001"), ("audio", "composer-001"), (None, None))
MODELS = ("openai/gpt-4.1", "a.b$c%2E", "demo")
TIMES = (
    "2026-10-31T23:59:59.999Z",
    "2026-11-01T00:00:00.000Z",
    "2026-11-01T10:59:59.999Z",
    "2026-11-01T11:00:00.000Z",
    "2026-11-30T23:00:00.000Z",
    "2026-12-01T00:00:00.000Z",
)
BOUNDS = st.sampled_from(
    (
        "2026-10-01",
        "2026-10-31",
        "2026-11-01",
        "2026-11-01T11",
        "2026-11-02",
        "2026-11-30T23",
        "2026-12-01",
        "2027-01-01",
    )
)
TOKENS = st.integers(0, 2**31)


@st.composite
def rows(draw: st.DrawFn, origin: tuple[str | None, str | None], project: str | None, key: str | None) -> JsonObject:
    """A row of an execution."""
    is_priced, is_ok, is_cached = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return row_of(
        draw(st.sampled_from(TIMES)),
        department=origin[0],
        agent=origin[1],
        project=project,
        apiKey=key,
        model=draw(st.sampled_from(MODELS)),
        purpose=draw(st.sampled_from(("work", "judge", "plan"))),
        outcome="ok" if is_ok else "error",
        inputTokens=draw(TOKENS),
        outputTokens=draw(TOKENS),
        savedTokens=draw(TOKENS),
        priceStatus="priced" if is_priced else "unpriced",
        costUsd=draw(st.floats(0, 1000)) if is_priced else None,
        cached=is_cached,
        cacheStatus="hit" if is_cached else draw(st.sampled_from(("miss", "bypassed"))),
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    """An execution with some calls, which may have been opened again twice."""
    origin, project = draw(st.sampled_from(ORIGINS)), draw(st.sampled_from(PROJECTS))
    key = draw(st.sampled_from(("key-1", "key-2", None)))
    calls = draw(st.lists(rows(origin, project, key), max_size=6))
    ends = draw(st.lists(st.integers(0, len(calls)), max_size=2))
    return History(calls, ends, tuple(draw(st.lists(st.sampled_from(("night", "a|b")), max_size=2))))


def filter_of(wanted: JsonObject, tag: str | None, start: str, end: str) -> UsageFilter:
    """A filter of the API."""
    first, last = (HOUR.validate_python(bound if "T" not in bound else f"{bound}:00:00Z") for bound in (start, end))
    return UsageFilter(
        project=wanted.get("project"),
        department=wanted.get("department"),
        agent=wanted.get("agent"),
        api_key=wanted.get("apiKey"),
        tag=tag,
        start=first,
        end=last,
    )


@pytest.fixture
async def usage(database: Database) -> UsageQueries:
    """The queries of an empty database."""
    return UsageQueries(database)


async def read(usage: UsageQueries, wanted: UsageFilter, grouping: str) -> dict[str, Any]:
    """An answer as the API gives it."""
    return (await usage.read(wanted, UsageGrouping(grouping))).model_dump(by_alias=True)


def agree(found: dict[str | None, Sums], expected: dict[str | None, Sums]) -> None:
    """Compare figures, money to 1e-9 USD."""
    assert found.keys() == expected.keys()
    for key, sums in expected.items():
        assert (found[key].cost is None) == (sums.cost is None)
        assert abs((found[key].cost or 0) - (sums.cost or 0)) < max(
            Decimal("1e-9"), (sums.cost or 0) * Decimal("1e-15")
        )
        found[key].cost = sums.cost
        assert found[key] == sums


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    executions=st.lists(histories(), max_size=6),
    wanted=st.fixed_dictionaries(
        {},
        optional={
            "project": st.sampled_from(PROJECTS[:2]),
            "department": st.sampled_from(("story", "audio")),
            "agent": st.sampled_from(("plot-specialist-001", "composer-001")),
            "apiKey": st.sampled_from(("key-1", "key-2")),
        },
    ),
    tag=st.none() | st.sampled_from(("night", "a|b")),
    bounds=st.tuples(BOUNDS, BOUNDS).map(sorted),
)
async def test_roll_ups_agree_with_the_rows_for_every_grouping_filter_and_range(
    database: Database,
    usage: UsageQueries,
    executions: list[History],
    wanted: JsonObject,
    tag: str | None,
    bounds: list[str],
) -> None:
    for document in (UsageBucket, UsageDetail, UsageHour):
        await database[document.get_collection_name()].delete_many({})
    await count(database, *executions)

    for grouping in UsageGrouping:
        answer = await read(usage, filter_of(wanted, tag, *bounds), grouping)
        agree(shown(answer["groups"]), sums_by(grouping, executions, wanted, tag, *bounds))
        departments = sums_by("department", executions, wanted, tag, *bounds)
        assert answer["totalTokens"] == sum(one.input + one.output for one in departments.values())
        assert answer["executions"] == sum(one.executions for one in departments.values())
        assert answer["byDepartment"] == {slug: one.input + one.output for slug, one in departments.items() if slug}
        priced = [one.cost for one in departments.values() if one.cost is not None]
        assert (answer["costEstimate"] is None) == (not priced)
        assert answer["costEstimate"] is None or abs(answer["costEstimate"] - float(sum(priced))) < 1e-8


async def test_an_execution_that_is_opened_again_is_counted_once(database: Database, usage: UsageQueries) -> None:
    first, second = "2026-11-15T10:00:00.000Z", "2026-11-16T10:00:00.000Z"
    later = [row_of(second, model="demo"), row_of(second, purpose="review"), row_of(second)]
    history = History([row_of(first), row_of(first), *later], ends=[2, 2, 4])

    await count(database, history)

    by_day = shown((await read(usage, UsageFilter(), "day"))["groups"])
    by_model = shown((await read(usage, UsageFilter(), "model"))["groups"])
    by_purpose = shown((await read(usage, UsageFilter(), "purpose"))["groups"])
    assert {key: (sums.executions, sums.calls) for key, sums in by_day.items()} == {
        "2026-11-15": (1, 2),
        "2026-11-16": (1, 3),
    }
    assert {key: (sums.executions, sums.calls) for key, sums in by_model.items()} == {
        "anthropic/claude-3.5-sonnet": (1, 4),
        "demo": (1, 1),
    }
    assert {key: (sums.executions, sums.calls) for key, sums in by_purpose.items()} == {
        "work": (1, 4),
        "review": (1, 1),
    }
    answer = await read(usage, UsageFilter(), "agent")
    assert (answer["executions"], answer["calls"], answer["averagePerExecution"]) == (1, 5, 550)


@pytest.mark.slow
async def test_processes_that_count_at_once_count_each_end_once(database: Database, usage: UsageQueries) -> None:
    outboxes = [Outbox(database, [UsageRollups(database)]) for _ in range(3)]
    for place in range(60):
        agent = f"agent-{place % 4}"
        await store(database, outboxes[0], History([row_of(agent=agent), row_of(agent=agent)], [1], ("a", "b")))

    while await pending(database):
        await asyncio.gather(*(outbox.settle() for outbox in outboxes))

    answer = await read(usage, UsageFilter(), "tag")
    assert (answer["executions"], answer["calls"], answer["totalTokens"]) == (60, 120, 13_200)
    assert {key: sums.executions for key, sums in shown(answer["groups"]).items()} == {"a": 60, "b": 60}
    agents = await database["agent-usage"].count_documents({"view": "agent", "period": "2026-11-15", "tag": None})
    assert agents == 4


async def pending(database: Database) -> int:
    """How many executions have a mark."""
    executions = database[AgentExecution.get_collection_name()]
    return await executions.count_documents({"outbox.usage": {"$exists": True}})


class Interrupted(UsageRollups):
    """Roll-ups whose process dies twice before it can commit."""

    attempts = 0

    async def apply(self, batch: Any, session: Any) -> None:  # noqa: ANN401 - passed on
        """Apply, then fail."""
        await super().apply(batch, session)
        self.attempts += 1
        if self.attempts <= 2:
            raise ConnectionError("the process is gone")


@pytest.mark.slow
async def test_a_mark_that_is_replayed_is_counted_once(database: Database, usage: UsageQueries) -> None:
    await store(database, Outbox(database, [UsageRollups(database)]), History([row_of()]))
    interrupted = Interrupted(database)
    await Outbox(database, [interrupted]).settle()
    assert (await read(usage, UsageFilter(), "day"))["calls"] == 0

    while await pending(database):
        await Outbox(database, [interrupted]).settle()

    assert interrupted.attempts == 3
    assert (await read(usage, UsageFilter(), "day"))["calls"] == 1


async def test_a_damaged_mark_does_not_keep_others_from_being_counted(database: Database, usage: UsageQueries) -> None:
    outbox = Outbox(database, [UsageRollups(database)])
    damaged: list[Any] = [
        "gone",
        {"a": "gone"},
        {"a": {"tags": [], "hours": [{"hour": "soon"}]}},
        {
            "a": {
                "tags": [],
                "hours": [{"hour": "2026-11-15T10", "totals": {"calls": "x"}, "models": {}, "purposes": {}}],
            }
        },
    ]
    for marks in damaged:
        identity = await store(database, outbox, History([row_of()]))
        executions = database[AgentExecution.get_collection_name()]
        await executions.update_one({"executionId": identity}, {"$set": {"outbox.usage": marks}})
    await store(database, outbox, History([row_of()]))

    await outbox.settle()

    assert (await read(usage, UsageFilter(), "day"))["calls"] == 1
    assert await pending(database) == 0


async def test_rows_with_absurd_figures_neither_fail_nor_overflow(database: Database, usage: UsageQueries) -> None:
    absurd = [
        row_of(inputTokens=2**62, costUsd=1e300),
        row_of(inputTokens=float("inf"), costUsd=float("inf")),
        row_of(inputTokens="many", costUsd=float("nan"), model=None, purpose=3),
        row_of(startedAt="yesterday", inputTokens=None, agent=["a"]),
        {},
    ]

    await count(database, *(History([row]) for row in absurd))

    answer = await read(usage, UsageFilter(), "model")
    assert (answer["executions"], answer["costEstimate"]) == (5, 2_000_000.001)
    assert {group["key"] for group in answer["groups"]} == {"anthropic/claude-3.5-sonnet", "unknown"}


async def test_money_adds_up_to_the_last_digit(database: Database, usage: UsageQueries) -> None:
    costs = [0.1, 0.2, 0.000000001, 0.0000000375, 1234.56789] * 200

    await count(database, History([row_of(costUsd=cost) for cost in costs]))

    expected = sum(Decimal(repr(cost)) for cost in costs)
    assert (await read(usage, UsageFilter(), "day"))["costEstimate"] == float(expected)


async def test_an_execution_without_calls_leaves_no_mark(database: Database) -> None:
    identity = await store(database, Outbox(database, [UsageRollups(database)]), History([]))

    raw = await database[AgentExecution.get_collection_name()].find_one({"executionId": identity})
    assert raw is not None
    assert "outbox" not in raw
