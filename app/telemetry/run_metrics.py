"""Metrics of runs, counted from events once they are stored, so that no event is counted twice."""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from app.kit.json_values import JsonObject
from app.telemetry.metrics import (
    COST,
    DIRECTIONS,
    EXECUTION_SECONDS,
    EXECUTIONS,
    MODEL_ERRORS,
    MODEL_SECONDS,
    TOKENS,
    LabelValues,
)

MAX_BATCHES = 1000
MAX_MODELS_AT_START = 20
"""The models whose series exist before their first calls; each has more than a hundred lines."""
TOKEN_FIELDS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")

_models, _codes = LabelValues(), LabelValues()
_batches: deque[str] = deque(maxlen=MAX_BATCHES)
"""The latest judge calls that were shared by several executions: each has a row for the same call."""


def show_models(models: Iterable[str], purposes: Iterable[str], codes: Iterable[str]) -> None:
    """Create the series of the configured models, at most of `MAX_MODELS_AT_START`, before their first calls."""
    purposes, codes = [*purposes], [*codes]
    for name in dict.fromkeys(islice(models, MAX_MODELS_AT_START)):
        model = _models.shown(name)
        COST.labels(model)
        for direction in DIRECTIONS:
            TOKENS.labels(model, direction)
        for purpose in purposes:
            MODEL_SECONDS.labels(model, purpose)
        for code in codes:
            MODEL_ERRORS.labels(model, _codes.shown(code))


def record_end(kind: str, status: str, milliseconds: float) -> None:
    """Count an execution that has ended."""
    EXECUTIONS.labels(kind, status).inc()
    EXECUTION_SECONDS.labels(kind).observe(milliseconds / 1000)


def record_calls(calls: Iterable[JsonObject]) -> None:
    """Count the model calls that an event reports, by their ledger rows; answers from the cache are not calls."""
    for row in calls:
        if row["cached"]:
            continue
        model = _models.shown(str(row["model"]))
        for field, direction in zip(TOKEN_FIELDS, DIRECTIONS, strict=True):
            if row[field] > 0:
                TOKENS.labels(model, direction).inc(row[field])
        if (row["costUsd"] or 0) > 0:
            COST.labels(model).inc(row["costUsd"])
        if is_known_batch(row.get("batchId")):
            continue
        MODEL_SECONDS.labels(model, row["purpose"]).observe(row["durationMs"] / 1000)
        if code := row.get("errorCode"):
            MODEL_ERRORS.labels(model, _codes.shown(str(code))).inc()


def is_known_batch(batch_id: str | None) -> bool:
    """Return whether a shared call has been counted, and remember it."""
    if batch_id is None:
        return False
    if batch_id in _batches:
        return True
    _batches.append(batch_id)
    return False
