"""The deployments behind the Router: each call is fitted to the chosen one, and refusals are learned from."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

from app.kit.json_values import JsonObject
from app.services.llm.fitting.request import fit_request
from app.services.llm.model_info.capabilities import Capabilities
from app.services.llm.model_info.lessons import NEEDS_ROOM, lesson_of
from app.services.llm.model_info.model_table import ModelEntry

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Attempt:
    """A request to one deployment, and the lessons that it applies."""

    model: Capabilities
    sent: JsonObject
    applied: frozenset[str]


ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""The last attempt of this task."""
LEARNED: ContextVar[list[str] | None] = ContextVar("learned", default=None)
"""The lessons learned during the current call."""


class Deployments:
    """The capabilities of each entry, kept for the lifetime of the process."""

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        self._models = {entry.id: Capabilities(entry) for entry in entries}

    def add(self, entry: ModelEntry) -> None:
        """Add an entry."""
        self._models[entry.id] = Capabilities(entry)

    def of(self, entry: ModelEntry) -> Capabilities:
        """The capabilities of an entry's model."""
        return self._models.get(entry.id) or Capabilities(entry)

    @contextmanager
    def collecting_lessons(self) -> Generator[list[str]]:
        """Collect the lessons of a call's refusals."""
        noted: list[str] = []
        before = LEARNED.set(noted)
        try:
            yield noted
        finally:
            LEARNED.reset(before)

    def fit(self, arguments: JsonObject, deployment_id: str) -> JsonObject:
        """A call's arguments in the form that the chosen deployment accepts."""
        model = self._models.get(deployment_id)
        if model is None:
            return arguments
        fitted = fit_request(arguments, model)
        ATTEMPT.set(Attempt(model, model.entry.params | fitted, model.lessons.all))
        return fitted

    def answered(self) -> None:
        """Record that the last attempt has its answer, or that its stream has begun."""
        attempt = ATTEMPT.get()
        if attempt is not None:
            attempt.model.lessons.confirm(attempt.applied)

    def refused(self, error: Exception) -> None:
        """Record that the last attempt failed, with the lesson from its refusal, if any."""
        attempt = ATTEMPT.get()
        if attempt is None:
            return
        lessons = attempt.model.lessons
        lesson = lesson_of(error, attempt.sent, attempt.applied)
        if lesson is None:
            lessons.withdraw(attempt.applied)
            return
        lessons.add(lesson)
        entry = attempt.model.entry
        log.warning("model-lesson-learned", model=entry.name, deployment=entry.params["model"], lesson=lesson.text)
        learned = LEARNED.get()
        if learned is not None:
            learned.append(lesson.text)

    def record_exhausted_limit(self, entry: ModelEntry) -> bool:
        """Record that reasoning used up an answer's token limit. Returns whether this is new."""
        known = self.of(entry).lessons.known
        is_news = NEEDS_ROOM not in known
        known.add(NEEDS_ROOM)
        return is_news
