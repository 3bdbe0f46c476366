"""The chain of a run tree's model calls.

It is: scoped, fitted, fenced, kept, retried, owned, budgeted, cached, traced, gateway. Each link is a `ModelCaller`
around the next. LiteLLM's Router chooses the deployment and falls back within one attempt; the number of further
attempts is `num_retries` of MODELS_CONFIG, counted only here, so that attempts never multiply.
"""

import asyncio
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from app.failpoints import failpoint
from app.kit.json_values import JsonObject
from app.services.llm.calls import NO_SCOPE, CallScope, Completion, ModelCaller, ModelRequest
from app.services.llm.context.window import ContextWindow
from app.services.llm.failures.errors import AnswerNotCached, ModelAnswerEmpty, ModelCallFailed, ModelContextExceeded
from app.services.prompts.fences import fenced, same_as

RESULT = "RESULT OF"
NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_.-]")
"""A model can name a tool that does not exist, in any characters."""
MAX_LABEL_CHARACTERS = 64
LEAST_REPEATED_CHARACTERS = 400
"""Results of at least this length are shown only once, even if several calls return them, as after a revision."""
MAX_ADAPTED = 8
"""How many parts of a request may be refused, one after the other."""

NoteRetry = Callable[[str, ModelCallFailed, int], None]
"""Records a retry of a call in an execution's events: the execution's id, the error, the attempt."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RetryPauses:
    """The pauses before retries, in seconds: at random up to a bound that doubles from `first` to `longest`."""

    first_seconds: float = 0.5
    longest_seconds: float = 20.0
    longest_wait_seconds: float = 120.0
    """A provider that asks for a longer wait is not called again."""

    def before(self, attempt: int, error: ModelCallFailed) -> float | None:
        """Return the pause before a retry, at least as long as the provider asks, or `None` if a retry cannot help."""
        asked = error.wait_seconds or 0.0
        if not error.is_passing or asked > self.longest_wait_seconds:
            return None
        bound = min(self.first_seconds * 2 ** (attempt - 1), self.longest_seconds)
        return asked + bound * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients, hides nothing


DEFAULT_PAUSES = RetryPauses()


@dataclass(frozen=True)
class ScopedModels:
    """Adds to each request the execution that its cost is attributed to, and whether the run uses the cache."""

    following: ModelCaller
    scope_of: Callable[[str], CallScope]
    use_cache: bool

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            AnswerNotCached: only a cached answer was wanted, and the cache has no answer.
            ModelCallFailed: the call failed.
            TreeLost: this process no longer owns the tree.
        """
        if request.only_cached and not self.use_cache:
            raise AnswerNotCached
        scope = self.scope_of(request.execution_id)
        return await self.following.complete(replace(request, scope=scope, use_cache=self.use_cache))


@dataclass(frozen=True)
class OwnedModels:
    """Calls a model only while this process owns the tree."""

    following: ModelCaller
    ensure_owned: Callable[[], None]

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            ModelCallFailed: the call failed.
            TreeLost: this process no longer owns the tree.
        """
        self.ensure_owned()
        if request.only_cached:
            return await self.following.complete(request)
        failpoint("before-model-call")
        completion = await self.following.complete(request)
        failpoint("after-model-call")
        return completion


@dataclass(frozen=True)
class RetriedModels:
    """Repeats a failed call as often as its model allows; the execution's events record each retry and its cost."""

    following: ModelCaller
    retries: Callable[[str], int]
    pauses: RetryPauses
    note_retry: NoteRetry

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            ModelCallFailed: the last try failed, or a retry could not help.
            TreeLost: this process no longer owns the tree.
        """
        attempt = 0
        adapted = 0
        while True:
            try:
                return await self.following.complete(request)
            except ModelCallFailed as error:
                request = replace(request, attempt=request.attempt + max(len(error.calls), 1))
                if error.is_adapted and adapted < MAX_ADAPTED:
                    adapted += 1
                    self.note_retry(request.execution_id, error, attempt + adapted)
                    continue
                attempt += 1
                pause = self.pauses.before(attempt, error)
                if pause is None or attempt > self.retries(request.model):
                    raise
                log.info("model-call-retried", model=request.model, code=error.code, attempt=attempt, seconds=pause)
                self.note_retry(request.execution_id, error, attempt)
                if isinstance(error, ModelAnswerEmpty) and error.is_cut:
                    request = replace(request, max_tokens=None)  # a model that reasons may use up a small limit
                await asyncio.sleep(pause)


@dataclass(frozen=True)
class FittedModels:
    """Shortens requests to the model's context; a request that is rejected as too long is retried once, shorter."""

    following: ModelCaller
    window: ContextWindow
    note_retry: NoteRetry

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request with as many of its messages as the model accepts.

        Raises:
            ModelCallFailed: the call failed, or the required messages exceed the model's context.
            TreeLost: this process no longer owns the tree.
        """
        fitted = self.window.fit(request)
        try:
            completion = await self.following.complete(fitted.request)
        except ModelContextExceeded as error:
            fitted = self.window.shrink(request, fitted, error)
            log.info("model-call-shortened", model=request.model, omitted=fitted.omitted)
            self.note_retry(request.execution_id, error, 1)
            attempt = request.attempt + max(len(error.calls), 1)
            completion = await self.following.complete(replace(fitted.request, attempt=attempt))
        return replace(completion, omitted=fitted.omitted)


@dataclass(frozen=True)
class FencedModels:
    """Marks the results of tools as data, however they were stored or shortened."""

    following: ModelCaller

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request.

        Raises:
            ModelCallFailed: the call failed.
            TreeLost: this process no longer owns the tree.
        """
        return await self.following.complete(replace(request, messages=with_fences(request.messages)))


def with_fences(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Return messages with each tool's result fenced; a long one that was already shown is replaced by a reference to
    its fence."""
    sent: list[JsonObject] = []
    shown: set[str] = set()
    for message in map(with_fence, messages):
        content = message.get("content")
        if message.get("role") == "tool" and isinstance(content, str) and len(content) >= LEAST_REPEATED_CHARACTERS:
            sent.append({**message, "content": same_as(content)} if content in shown else message)
            shown.add(content)
        else:
            sent.append(message)
    return sent


def with_fence(message: JsonObject) -> JsonObject:
    """Return a message, with its content fenced if it is a tool's result."""
    if message.get("role") != "tool":
        return message
    name = NOT_IN_LABELS.sub("_", str(message.get("name") or "tool"))[:MAX_LABEL_CHARACTERS]
    return {**message, "content": fenced(f"{RESULT} {name}", str(message.get("content")))}


def unchanged(models: ModelCaller) -> ModelCaller:
    """Return the next link itself, in place of a link that is switched off."""
    return models


def model_chain(
    gateway: ModelCaller,
    *,
    window: ContextWindow,
    note_retry: NoteRetry,
    ensure_owned: Callable[[], None],
    budgeted: Callable[[ModelCaller], ModelCaller] = unchanged,
    cached: Callable[[ModelCaller], ModelCaller] = unchanged,
    traced: Callable[[ModelCaller], ModelCaller] = unchanged,
    kept: Callable[[ModelCaller], ModelCaller] = unchanged,
    scope_of: Callable[[str], CallScope] = lambda _: NO_SCOPE,
    use_cache: bool = True,
    retries: Callable[[str], int] = lambda _: 0,
    pauses: RetryPauses = DEFAULT_PAUSES,
) -> ModelCaller:
    """Return the chain of one tree; a request passes the links from the last built to the first."""
    owned = OwnedModels(budgeted(cached(traced(gateway))), ensure_owned)
    retried = RetriedModels(owned, retries, pauses, note_retry)
    fitted = FittedModels(FencedModels(kept(retried)), window, note_retry)
    return ScopedModels(fitted, scope_of, use_cache and cached is not unchanged)
