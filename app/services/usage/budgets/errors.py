"""The errors of budgets that refuse a call or a run."""

from http import HTTPStatus
from typing import Any

from app.errors import AppError, NotFound

RUN = "run"
"""The scope of a run's own limits, in messages."""


class BudgetNotFound(NotFound):
    """The scope has no budget."""

    code = "budget-not-found"

    def __init__(self, scope: str) -> None:
        super().__init__(f"There is no budget for {scope[:100]!r}.")


class BudgetRefused(AppError):
    """A budget does not permit a model call; no retry helps until the budget changes."""

    calls: tuple[Any, ...] = ()
    """The earlier calls of the same step that no event has reported yet."""


class BudgetExhausted(BudgetRefused):
    """The rest of a budget does not cover the call, or nothing is left for a new run."""

    code = "budget-exhausted"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, scope: str, retry_after_seconds: int | None = None, message: str | None = None) -> None:
        whose = "own budget of this run" if scope == RUN else f"budget of {scope!r}"
        advice = "" if scope == RUN else " Raise its limits, or wait until its next period."
        super().__init__(message or f"The {whose} is exhausted.{advice}")
        self.scope = scope
        self.retry_after_seconds = retry_after_seconds


class BudgetUnpriced(BudgetRefused):
    """A budget in US dollars cannot cover a call whose price is unknown."""

    code = "budget-unpriced"
    status = HTTPStatus.CONFLICT

    def __init__(self, scope: str, model: str) -> None:
        whose = "run" if scope == RUN else f"budget of {scope!r}"
        super().__init__(
            f"The {whose} has a limit in US dollars, and the price of the model {model!r} is unknown. Set "
            "input_cost_per_token and output_cost_per_token in its entry of MODELS_CONFIG."
        )


class BudgetUnavailable(AppError):
    """A budget cannot be checked; the call is refused, because it might exceed the limit."""

    code = "budget-unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__("A budget cannot be checked, because the database does not answer. Try again in a moment.")
