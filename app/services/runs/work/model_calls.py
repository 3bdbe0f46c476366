"""Model calls of a run tree: tried again where that can help, and never begun once the tree is lost.

LiteLLM's Router picks the deployment and falls back within one try; how often there is another is `num_retries` of
MODELS_CONFIG, counted here alone, so that tries are never multiplied.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from app.failpoints import failpoint
from app.services.llm.calls import Completion, ModelCaller, ModelRequest
from app.services.llm.context.window import ContextWindow
from app.services.llm.failures.errors import ModelAnswerEmpty, ModelCallFailed, ModelContextExceeded

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 20.0
LONGEST_WAIT_SECONDS = 120.0
"""A provider that asks for a longer wait than this is not waited for."""

MAX_ADAPTED = 8
"""How many parts of a request may turn out to be refused, one after the other."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TreeModels:
    """The models, for one tree; `note` says in the execution's events that a call is made again, and what it cost."""

    models: ModelCaller
    retries: Callable[[str], int]
    note: Callable[[str, ModelCallFailed, int], None]
    ensure_owned: Callable[[], None]
    window: ContextWindow

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request with as much of its messages as the model takes.

        One that is refused as too long is made again once, shorter.

        Raises:
            ModelCallFailed: as in `_answer`, or what must be sent is longer than the model takes.
            TreeLost: this process no longer owns the tree.
        """
        fitted = self.window.fit(request)
        try:
            completion = await self._answer(fitted.request)
        except ModelContextExceeded as error:
            fitted = self.window.shrink(request, fitted, error)
            log.info("model-call-shortened", model=request.model, omitted=fitted.omitted)
            self.note(request.execution_id, error, 1)
            completion = await self._answer(fitted.request)
        return replace(completion, omitted=fitted.omitted)

    async def _answer(self, request: ModelRequest) -> Completion:
        """Answer one request, after so many more tries as the model may have.

        Raises:
            ModelCallFailed: the last try failed, or one in a way that another would not mend.
            TreeLost: this process no longer owns the tree.
        """
        attempt = 0
        adapted = 0
        while True:
            self.ensure_owned()
            failpoint("before-model-call")
            try:
                completion = await self.models.complete(request)
            except ModelCallFailed as error:
                if error.is_adapted and adapted < MAX_ADAPTED:
                    adapted += 1
                    self.note(request.execution_id, error, attempt + adapted)
                    continue
                attempt += 1
                pause = pause_before(attempt, error)
                if pause is None or attempt > self.retries(request.model):
                    raise
                log.info("model-call-again", model=request.model, code=error.code, attempt=attempt, seconds=pause)
                self.note(request.execution_id, error, attempt)
                if isinstance(error, ModelAnswerEmpty) and error.is_cut:
                    request = replace(request, max_tokens=None)  # a model that reasons may use up a small limit
                await asyncio.sleep(pause)
            else:
                failpoint("after-model-call")
                return completion


def pause_before(attempt: int, error: ModelCallFailed) -> float | None:
    """How long to wait before another try, at random up to a bound that doubles, but as long as the provider asks.

    `None` where another try would not mend anything.
    """
    asked = error.wait_seconds or 0.0
    if not error.is_passing or asked > LONGEST_WAIT_SECONDS:
        return None
    bound = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
    return asked + bound * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients, hides nothing
