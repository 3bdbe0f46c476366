"""The deployments behind the Router: each call is fitted to the chosen one, and later calls apply what refusals
taught."""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.services.llm.calls import ModelRequest
from app.services.llm.fitting.attribution import attributed, with_trace
from app.services.llm.fitting.cache_markers import fit_shared
from app.services.llm.fitting.request import fit_request
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.lessons import NEEDS_ROOM, lesson_of
from app.services.llm.model_info.model_table import ModelEntry

log = structlog.get_logger(__name__)


@dataclass
class Attempt:
    """A request to one deployment, and the lessons that it applies."""

    model: Capabilities
    sent: JsonObject
    applied: frozenset[str]
    started_at: datetime
    began: float
    """When it was sent, in seconds of the monotonic clock."""
    error: Exception | None = None

    @property
    def duration_ms(self) -> int:
        """How long ago it was sent."""
        return round((time.monotonic() - self.began) * 1000)


@dataclass
class CallRecord:
    """The attempts of one call, and the lessons from their refusals."""

    request: ModelRequest
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    lessons: list[str] = field(default_factory=list[str])


RECORD: ContextVar[CallRecord | None] = ContextVar("record", default=None)
"""The record of this task's current call."""


class Deployments:
    """The capabilities of each entry, kept for the lifetime of the process."""

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        self._models = {entry.id: Capabilities(entry) for entry in entries}

    def add(self, entry: ModelEntry) -> None:
        """Add an entry."""
        self._models[entry.id] = Capabilities(entry)

    def of(self, entry: ModelEntry) -> Capabilities:
        """Return the capabilities of an entry's model."""
        return self._models.get(entry.id) or Capabilities(entry)

    @contextmanager
    def recording(self, request: ModelRequest) -> Generator[CallRecord]:
        """Record the attempts and lessons of a call."""
        record = CallRecord(request)
        before = RECORD.set(record)
        try:
            yield record
        finally:
            RECORD.reset(before)

    def fit(self, arguments: JsonObject, deployment_id: str) -> JsonObject:
        """Return a call's arguments in the form that the chosen deployment accepts."""
        model = self._models.get(deployment_id)
        if model is None:
            return arguments
        fitted = fit_request(arguments, model)
        record = RECORD.get()
        if record is not None:
            fitted = fit_shared(fitted, model, record.request.shared)
            fitted = with_trace(attributed(fitted, model, record.request), model)
            sent = model.entry.params | fitted
            record.attempts.append(Attempt(model, sent, model.lessons.all, utc_now(), time.monotonic()))
        return fitted

    def answered(self) -> None:
        """Record that the last attempt has its answer, or that its stream has begun."""
        record = RECORD.get()
        if record is not None and record.attempts:
            attempt = record.attempts[-1]
            attempt.model.lessons.confirm(attempt.applied)

    def refused(self, error: Exception) -> None:
        """Record that the last attempt failed, with the lesson from its refusal, if any."""
        record = RECORD.get()
        if record is None or not record.attempts:
            return
        attempt = record.attempts[-1]
        attempt.error = error
        lessons = attempt.model.lessons
        lesson = lesson_of(error, attempt.sent, attempt.applied)
        if lesson is None:
            lessons.withdraw(attempt.applied)
            return
        lessons.add(lesson)
        entry = attempt.model.entry
        log.warning("model-lesson-learned", model=entry.name, deployment=entry.params["model"], lesson=lesson.text)
        record.lessons.append(lesson.text)

    def record_exhausted_limit(self, entry: ModelEntry) -> bool:
        """Record that reasoning used up an answer's token limit. Returns whether this is new."""
        known = self.of(entry).lessons.known
        is_news = NEEDS_ROOM not in known
        known.add(NEEDS_ROOM)
        return is_news
