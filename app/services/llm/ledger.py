"""The ledger rows of the attempts behind one model call."""

from typing import Any

from app.kit.times import utc_now
from app.services.llm.calls import NO_USAGE, ModelCall, ModelRequest, UsageStatus
from app.services.llm.failures.classification import failure_of
from app.services.llm.fitting.deployments import Attempt, CallRecord
from app.services.llm.model_info.model_table import ModelEntry
from app.services.llm.model_info.pricing import (
    cost_of,
    reasoning_tokens_of,
    reported_usage_of,
    usage_of,
    usage_status_of,
)


def answered_call(
    request: ModelRequest,
    record: CallRecord,
    response: Any,  # noqa: ANN401 - LiteLLM's response
    entry: ModelEntry,
) -> ModelCall:
    """Return the row of the last attempt, which was answered."""
    usage, cost = usage_of(response), cost_of(response, entry)
    status = usage_status_of(response, usage)
    last = record.attempts[-1] if record.attempts else None
    return ModelCall(
        execution_id=request.execution_id,
        scope=request.scope,
        purpose=request.purpose,
        model=entry.record_name,
        deployment=str(entry.params["model"]),
        attempt=request.attempt + max(len(record.attempts) - 1, 0),
        usage=usage,
        cost_usd=cost,
        is_priced=cost is not None,
        started_at=last.started_at if last else utc_now(),
        duration_ms=last.duration_ms if last else 0,
        reasoning_tokens=reasoning_tokens_of(response),
        usage_status=status,
        reported=reported_usage_of(response) if status is UsageStatus.IMPLAUSIBLE else None,
    )


def failed_calls(
    request: ModelRequest, record: CallRecord, code: str, secrets: frozenset[str]
) -> tuple[ModelCall, ...]:
    """Return the rows of a call without an answer, whose last attempt failed with `code`."""
    before = calls_before(request, record, secrets)
    return (*before, *(failed_call(request, one, len(before), code) for one in record.attempts[-1:]))


def calls_before(request: ModelRequest, record: CallRecord, secrets: frozenset[str]) -> tuple[ModelCall, ...]:
    """Return the rows of the attempts before the last one, which LiteLLM repeated elsewhere."""
    return tuple(
        failed_call(request, attempt, place, failure_of(request.model, attempt.error, secrets).code)
        for place, attempt in enumerate(record.attempts[:-1])
        if attempt.error is not None
    )


def failed_call(request: ModelRequest, attempt: Attempt, place: int, code: str) -> ModelCall:
    """Return the row of an attempt that failed: its provider reported no usage, and it costs nothing."""
    entry = attempt.model.entry
    return ModelCall(
        execution_id=request.execution_id,
        scope=request.scope,
        purpose=request.purpose,
        model=entry.record_name,
        deployment=str(entry.params["model"]),
        attempt=request.attempt + place,
        usage=NO_USAGE,
        cost_usd=0.0,
        is_priced=entry.has_price,
        started_at=attempt.started_at,
        duration_ms=attempt.duration_ms,
        error_code=code,
        usage_status=UsageStatus.MISSING,
    )
