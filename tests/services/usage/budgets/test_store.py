"""Random schedules of reservations against a model, and the promise: used and reserved never exceed a limit."""

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from app.database.audit_marks import SERVICE
from app.database.connection import Database
from app.services.usage.budgets.amounts import Amount, read_units, units_of
from app.services.usage.budgets.budgets import Budgets
from app.services.usage.budgets.errors import BudgetExhausted, BudgetUnavailable, BudgetUnpriced
from app.services.usage.budgets.known import KnownBudgets
from app.services.usage.budgets.schemas import BudgetWrite
from app.services.usage.budgets.store import BudgetStore, holds

SCOPES = ("agent:a", "project:66f0a1b2c3d4e5f601234567", "global")
START = datetime(2026, 3, 28, 12, tzinfo=UTC)
LIFETIME = 60.0


def limits(tokens: int | None, usd: float | None = None, period: str = "total") -> BudgetWrite:
    """The body of a budget."""
    return BudgetWrite.model_validate({"maxTokens": tokens, "maxCostUsd": usd, "period": period})


@dataclass
class Model:
    """A budget in plain Python."""

    max_tokens: int
    max_cost: int
    day: int = 0
    used: Amount = field(default_factory=Amount)
    held: dict[str, tuple[str, Amount, datetime]] = field(default_factory=dict[str, tuple[str, Amount, datetime]])

    def at(self, now: datetime) -> None:
        """Start the day that is due, and drop what has expired."""
        if (now - START.replace(hour=0)).days > self.day:
            self.day, self.used = (now - START.replace(hour=0)).days, Amount()
        self.held = {name: one for name, one in self.held.items() if one[2] > now}

    def reserve(self, name: str, root: str, worst: Amount, now: datetime) -> bool:
        """Whether it fits; then it is held."""
        self.at(now)
        reserved = sum((one[1] for one in self.held.values()), Amount())
        after = self.used + reserved + worst
        if after.tokens > self.max_tokens or (after.cost or 0) > self.max_cost:
            return False
        self.held[name] = (root, worst, now + timedelta(seconds=LIFETIME))
        return True

    def settle(self, name: str, real: Amount, now: datetime) -> None:
        """Book what was used, if it is held: an expired one counts as long as nothing has dropped it."""
        was_held = self.held.pop(name, None) is not None
        self.at(now)
        if was_held:
            self.used += real


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 12))])
async def test_random_schedules_agree_with_the_model(database: Database, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    now = START
    model = Model(chance.randint(50, 400), chance.randint(50, 400))
    body = BudgetWrite.model_validate(
        {"maxTokens": model.max_tokens, "maxCostUsd": model.max_cost / 10**12, "period": "day"}
    )
    await BudgetStore(database, now).put("global", body.as_stored())
    names: list[str] = []
    for step in range(120):
        now += timedelta(seconds=chance.choice((0, 1, 20, 90, 40_000 if step % 30 == 0 else 0)))
        store = BudgetStore(database, now, LIFETIME)
        amount = Amount(chance.randint(0, 80), chance.randint(0, 80))
        match chance.choice(("reserve", "reserve", "settle", "release", "tree", "settle twice")):
            case "reserve":
                names.append(f"r{step}")
                root = f"root{chance.randint(1, 3)}"
                budget = await store.reserve("global", names[-1], root, amount)
                assert budget is not None
                assert holds(budget, names[-1]) == model.reserve(names[-1], root, amount, now)
            case "tree":
                root = f"root{chance.randint(1, 3)}"
                touched = any(one[0] == root for one in model.held.values())
                await store.release_tree(root)
                model.held = {name: one for name, one in model.held.items() if one[0] != root}
                if touched:
                    model.at(now)
            case "release" if names:
                name = chance.choice(names)
                await store.release("global", name)
                model.held.pop(name, None)
                model.at(now)
            case kind if names:
                name = chance.choice(names)
                for _ in range(2 if kind == "settle twice" else 1):
                    await store.settle("global", name, amount)
                    model.settle(name, amount, now)
            case _:
                pass
        found = await store.get("global")
        live = [one for one in model.held.values() if one[2] > now]
        assert found["reservedTokens"] == sum(one[1].tokens for one in live)
        assert read_units(found["reservedCost"]) == sum(one[1].cost or 0 for one in live)
        seen = Model(model.max_tokens, model.max_cost, model.day, model.used)
        seen.at(now)
        assert (found["usedTokens"], read_units(found["usedCost"])) == (seen.used.tokens, seen.used.cost)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_used_and_reserved_never_exceed_a_limit_over_many_callers(database: Database, seed: int) -> None:
    processes = [Budgets(store := BudgetStore(database), KnownBudgets(store)) for _ in range(3)]
    await processes[0].store.put("agent:a", limits(4_000).as_stored())
    await processes[0].store.put("global", limits(3_000, 0.002).as_stored())
    spent: list[Amount] = []
    excesses: list[object] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            for scope, most in (("agent:a", 4_000), ("global", 3_000)):
                found = await processes[0].store.get(scope)
                if found["usedTokens"] + found["reservedTokens"] > most:
                    excesses.append(found)
            await asyncio.sleep(0.002)

    async def call(place: int) -> None:
        chance = random.Random(seed * 1000 + place)  # noqa: S311 - a schedule, not a secret
        budgets = processes[place % 3]
        worst = Amount(chance.randint(50, 300), units_of(chance.randint(1, 100) * 1e-6))
        try:
            reservation = await budgets.reserve(SCOPES, f"root{place}", worst, "model")
        except BudgetExhausted:
            return
        await asyncio.sleep(chance.random() * 0.02)
        if chance.random() < 0.2:
            await budgets.store.release_tree(f"root{place}")
            return
        real = Amount(chance.randint(0, worst.tokens), chance.randint(0, worst.cost or 0))
        await budgets.settle(reservation, real)
        spent.append(real)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(call(place) for place in range(80)))
    done.set()
    await watching

    assert excesses == []
    total = sum(spent, Amount())
    for scope in ("agent:a", "global"):
        found = await processes[0].store.get(scope)
        assert (found["usedTokens"], read_units(found["usedCost"])) == (total.tokens, total.cost)
        assert (found["reservedTokens"], read_units(found["reservedCost"])) == (0, 0)


async def test_a_refusal_of_a_wide_scope_releases_the_narrow_ones(database: Database) -> None:
    store = BudgetStore(database)
    budgets = Budgets(store, KnownBudgets(store))
    await store.put("agent:a", limits(1_000).as_stored())
    await store.put("global", limits(10).as_stored())

    with pytest.raises(BudgetExhausted, match="global"):
        await budgets.reserve(SCOPES, "root", Amount(100), "model")

    assert (await store.get("agent:a"))["reservedTokens"] == 0


async def test_a_cancelled_caller_leaves_nothing_reserved(database: Database) -> None:
    store = BudgetStore(database)
    budgets = Budgets(store, KnownBudgets(store))
    for scope in SCOPES:
        await store.put(scope, limits(1_000).as_stored())
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        task = asyncio.create_task(budgets.reserve(SCOPES, "root", Amount(10), "model"))
        await asyncio.sleep(delay)
        if task.cancel():
            await asyncio.gather(task, return_exceptions=True)
            for scope in SCOPES:
                assert (await store.get(scope))["reservedTokens"] == 0


async def test_a_limit_in_dollars_refuses_unknown_prices(database: Database) -> None:
    store = BudgetStore(database)
    await store.put("global", limits(None, 5).as_stored())

    with pytest.raises(BudgetUnpriced):
        await Budgets(store, KnownBudgets(store)).reserve(("global",), "root", Amount(1, None), "model")


async def test_usage_above_the_reservation_is_booked(database: Database) -> None:
    store = BudgetStore(database)
    budgets = Budgets(store, KnownBudgets(store))
    await store.put("global", limits(100).as_stored())

    await budgets.settle(await budgets.reserve(("global",), "root", Amount(10), "model"), Amount(500))

    assert (await store.get("global"))["usedTokens"] == 500


async def test_the_mark_is_reported_once_to_the_settlement_that_reached_it(database: Database) -> None:
    store = BudgetStore(database)
    budgets = Budgets(store, KnownBudgets(store))
    await store.put("global", limits(10_000).as_stored())
    held = [await budgets.reserve(("global",), f"r{place}", Amount(500), "model") for place in range(20)]

    marks = await asyncio.gather(*(budgets.settle(one, Amount(500)) for one in held))

    assert [mark.used_tokens for found in marks for mark in found] == [8_000]


async def test_a_check_that_cannot_be_made_refuses(database: Database) -> None:
    store = BudgetStore(database)
    await store.put("global", limits(100).as_stored())
    await database.client.close()

    with pytest.raises(BudgetUnavailable):
        await Budgets(store, KnownBudgets(store)).reserve(("global",), "root", Amount(1), "model")


async def test_another_process_learns_of_a_new_budget_within_a_second(database: Database) -> None:
    mine, other = KnownBudgets(BudgetStore(database)), KnownBudgets(BudgetStore(database))
    await other.start()
    try:
        budgets = Budgets(BudgetStore(database), mine)
        await budgets.put("agent:a", limits(5), SERVICE)
        assert mine.among(SCOPES) == ("agent:a",)
        async with asyncio.timeout(1):
            while not other.any:  # noqa: ASYNC110 - the other process sets no event here
                await asyncio.sleep(0.01)
        await budgets.delete("agent:a", SERVICE)
        async with asyncio.timeout(1):
            while other.any:  # noqa: ASYNC110 - the other process sets no event here
                await asyncio.sleep(0.01)
    finally:
        await other.stop()


def test_costs_are_exact() -> None:
    assert units_of(0.1) + units_of(0.2) == units_of(0.3) == 3 * 10**11
    assert units_of(1e-12) == 1
    assert units_of(1.4e-12) == 1
    assert units_of(1.1e-12, up=True) == 2
    assert units_of(2**53) == 2**53 * 10**12
