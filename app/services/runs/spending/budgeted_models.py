"""The link of the model chain that keeps a tree's calls within its budgets."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from app.services.llm.calls import CacheStatus, Completion, ModelCall, ModelCaller, ModelRequest, UsageStatus
from app.services.llm.failures.errors import ModelCallFailed
from app.services.usage.budgets.amounts import NOTHING, Amount, units_of
from app.services.usage.budgets.budgets import BudgetMark, Budgets, Reservation
from app.services.usage.budgets.errors import BudgetExhausted, BudgetUnavailable
from app.services.usage.budgets.run_budget import RunBudget
from app.services.usage.budgets.scopes import CallScopes

NoteMark = Callable[[str, BudgetMark], None]
"""Records in the events of an execution that a budget has reached its mark."""


class BudgetUnchecked(ModelCallFailed):
    """A budget of the call could not be checked; the call is not made, and a retry can succeed."""

    code = BudgetUnavailable.code
    status = BudgetUnavailable.status


@dataclass
class BudgetedModels:
    """Reserves the worst case before each call, and settles the actual usage afterward.

    Once a call of the tree is refused because a budget is exhausted, so are all later ones: the tree ends.
    """

    following: ModelCaller
    budgets: Budgets | None
    run_budget: RunBudget
    root_id: str
    worst_case: Callable[[ModelRequest], Amount]
    note_mark: NoteMark
    _exhausted: str | None = field(default=None, init=False)

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            AnswerNotCached: only a cached answer was wanted, and the cache has no answer.
            BudgetExhausted, BudgetUnpriced: a budget does not permit the call.
            ModelCallFailed: the call failed, or a budget could not be checked.
        """
        if self._exhausted is not None:
            raise BudgetExhausted(self._exhausted)
        if request.only_cached:  # it costs nothing
            return await self.following.complete(request)
        scope = request.scope
        callers = CallScopes(scope.agent, scope.department, scope.project, scope.api_key)
        applying = self.budgets.applying(callers) if self.budgets is not None else ()
        if not applying and not self.run_budget.has_limit:
            return await self.following.complete(request)
        worst = self.worst_case(request)
        try:
            held = await self._reserve(applying, worst, request.model)
        except BudgetExhausted as error:
            self._exhausted = error.scope
            raise
        except BudgetUnavailable as error:
            raise BudgetUnchecked(error.message) from error
        return await self._complete(request, worst, *held)

    async def _reserve(self, scopes: tuple[str, ...], worst: Amount, model: str) -> tuple[str, Reservation | None]:
        """Reserve in the run's own budget, then in the others."""
        call_id = secrets.token_hex(8)
        self.run_budget.reserve(call_id, worst, model)
        try:
            if self.budgets is None or not scopes:
                return call_id, None
            return call_id, await self.budgets.reserve(scopes, self.root_id, worst, model)
        except BaseException:
            self.run_budget.settle(call_id, NOTHING)
            raise

    async def _complete(
        self, request: ModelRequest, worst: Amount, call_id: str, reservation: Reservation | None
    ) -> Completion:
        """Make the call and settle it, however it ends; a cancelled call is not counted because no event reports it."""
        real = NOTHING
        try:
            completion = await self.following.complete(request)
            real = used_by(completion.calls, worst) if completion.calls else used_without_rows(completion, worst)
            return completion
        except ModelCallFailed as error:
            real = used_by(error.calls, worst)
            raise
        finally:
            self.run_budget.settle(call_id, real)
            if self.budgets is not None and reservation is not None:
                settling = asyncio.create_task(self.budgets.settle(reservation, real), name="settle")
                for mark in await asyncio.shield(settling):
                    self.note_mark(request.execution_id, mark)


def used_by(calls: tuple[ModelCall, ...], worst: Amount) -> Amount:
    """Return what some attempts used.

    An answer whose tokens the provider did not report counts as the worst case: otherwise no budget would ever stop
    that provider's calls.
    """
    used = NOTHING
    for call in calls:
        tokens = call.usage.input + call.usage.output
        cost = None if call.cost_usd is None else units_of(call.cost_usd)
        answered = call.error_code is None and call.cache_status is not CacheStatus.HIT
        if answered and call.usage_status in (UsageStatus.MISSING, UsageStatus.IMPLAUSIBLE):
            tokens = tokens or worst.tokens
        if cost is None and call.is_priced and answered:
            cost = worst.cost
        used += Amount(tokens, cost)
    return used


def used_without_rows(completion: Completion, worst: Amount) -> Amount:
    """Return what a completion without ledger rows used."""
    cost = worst.cost if completion.cost_usd is None else units_of(completion.cost_usd)
    return Amount(completion.usage.input + completion.usage.output, cost)
