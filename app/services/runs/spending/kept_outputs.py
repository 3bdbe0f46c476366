"""The outputs that a tree keeps when a budget stops it."""

from collections.abc import Iterable, Sequence

from app.kit.json_values import JsonObject
from app.services.runs.work.execution_run import ExecutionRun
from app.services.usage.budgets.errors import BudgetExhausted


def raise_if_exhausted(failures: Iterable[JsonObject | None]) -> None:
    """Raise the error of a budget that stopped an execution of the tree, if one did.

    Raises:
        BudgetExhausted: one of the failures is a `BudgetExhausted`.
    """
    for failure in failures:
        if failure is not None and failure.get("code") == BudgetExhausted.code:
            raise BudgetExhausted("", message=failure.get("message"))


def joined_outputs(runs: Sequence[ExecutionRun]) -> str:
    """Return the texts of some executions under the names of their agents; empty if no one has a text."""
    texts = [(run.agent.name, str((run.execution.output or {}).get("text") or "")) for run in runs]
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in texts if text.strip())
