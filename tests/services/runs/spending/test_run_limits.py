"""A run's own limits: reserved and settled in memory, counted again from stored events."""

import pytest

from app.services.runs.spending.run_limits import spent_in
from app.services.usage.budgets.amounts import Amount
from app.services.usage.budgets.errors import BudgetExhausted, BudgetUnpriced
from app.services.usage.budgets.run_budget import RunBudget


def test_used_and_reserved_never_exceed_the_limit() -> None:
    budget = RunBudget(max_tokens=100)
    budget.reserve("a", Amount(60), "model")
    with pytest.raises(BudgetExhausted):
        budget.reserve("b", Amount(41), "model")
    budget.settle("a", Amount(30))
    budget.settle("a", Amount(30))
    budget.reserve("b", Amount(70), "model")

    assert (budget.used.tokens, budget.reserved.tokens) == (30, 70)


def test_a_limit_in_dollars_needs_a_price() -> None:
    with pytest.raises(BudgetUnpriced):
        RunBudget(max_cost=10).reserve("a", Amount(1, None), "model")


def test_a_takeover_counts_the_calls_of_all_stored_events() -> None:
    rows = [
        {"inputTokens": 10, "outputTokens": 5, "costUsd": 2e-6},
        {"inputTokens": 1, "outputTokens": 0, "costUsd": 1e-12},
    ]
    events = {
        "exec_1": [{"type": "agent-start"}, {"type": "tool-call", "calls": rows}],
        "exec_2": [{"calls": rows[:1]}],
    }

    assert spent_in(events) == Amount(31, 4_000_001)
    assert spent_in({"exec_1": [{"calls": [{"inputTokens": 1, "outputTokens": 1, "costUsd": None}]}]}).cost is None
