"""A run's own budget: its limits, and its usage according to its stored events."""

from collections.abc import Mapping

from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution
from app.services.usage.budgets.amounts import NOTHING, Amount, units_of
from app.services.usage.budgets.run_budget import RunBudget


def run_budget_of(root: AgentExecution) -> RunBudget:
    """Return the budget that the client set for the run, with nothing used."""
    options = root.options
    if options is None:
        return RunBudget()
    limit = options.max_cost_usd
    return RunBudget(options.max_tokens, None if limit is None else units_of(limit))


def spent_in(events: Mapping[str, list[JsonObject]]) -> Amount:
    """Return what the calls in a tree's stored events used."""
    spent = NOTHING
    for event in (event for stored in events.values() for event in stored):
        for row in event.get("calls") or ():
            cost = row["costUsd"]
            spent += Amount(row["inputTokens"] + row["outputTokens"], None if cost is None else units_of(cost))
    return spent
