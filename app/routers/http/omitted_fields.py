"""The large fields of an execution, which a response can leave out."""

from typing import Annotated

from fastapi import Query

from app.kit.validation_words import worded
from app.services.runs.queries.execution_shapes import ExecutionRead

FIELDS = {"params": "params", "output": "output", "runState": "run_state"}
ANY_FIELD = f"({'|'.join(FIELDS)})"

Omit = Annotated[
    str | None,
    Query(
        pattern=worded(f"^{ANY_FIELD}(,{ANY_FIELD})*$", f"must name some of {', '.join(FIELDS)}, separated by commas"),
        max_length=100,
        description="Fields to leave out, separated by commas: `params`, `output`, `runState`. They become `null`.",
    ),
]


def without(execution: ExecutionRead, omit: str | None) -> ExecutionRead:
    """Return the execution without some fields."""
    if omit is None:
        return execution
    return execution.model_copy(update=dict.fromkeys(FIELDS[name] for name in omit.split(",")))
