"""A run's own limits, kept in the memory of the process that runs it.

One process at a time runs a tree: the fence rejects everything that an earlier owner reports. So the count needs no
database. The process that takes the tree over counts the calls in its stored events again; a call whose answer was not
stored is not counted, exactly as in the stored budgets.
"""

from dataclasses import dataclass, field

from app.services.usage.budgets.amounts import NOTHING, Amount
from app.services.usage.budgets.errors import RUN, BudgetExhausted, BudgetUnpriced


@dataclass
class RunBudget:
    """The limits of one run, in tokens and in trillionths of a US dollar; `None` means no limit."""

    max_tokens: int | None = None
    max_cost: int | None = None
    used: Amount = NOTHING
    _reserved: dict[str, Amount] = field(default_factory=dict[str, Amount], init=False)

    @property
    def has_limit(self) -> bool:
        """Whether there is a limit."""
        return self.max_tokens is not None or self.max_cost is not None

    @property
    def reserved(self) -> Amount:
        """The most that calls in progress may use."""
        return sum(self._reserved.values(), NOTHING)

    def reserve(self, call_id: str, worst: Amount, model: str) -> None:
        """Reserve the worst case of a call.

        Raises:
            BudgetExhausted: what is left does not cover it.
            BudgetUnpriced: the cost is limited, and the price of the model is unknown.
        """
        after = self.used + self.reserved + worst
        if self.max_tokens is not None and after.tokens > self.max_tokens:
            raise BudgetExhausted(RUN)
        if self.max_cost is not None:
            if after.cost is None:
                raise BudgetUnpriced(RUN, model)
            if after.cost > self.max_cost:
                raise BudgetExhausted(RUN)
        self._reserved[call_id] = worst

    def settle(self, call_id: str, real: Amount) -> None:
        """Replace a call's reservation with its actual usage, once."""
        if self._reserved.pop(call_id, None) is not None:
            self.used += real
