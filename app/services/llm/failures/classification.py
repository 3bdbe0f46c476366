"""Classification of LiteLLM's errors by what happened on the wire and by the provider's message."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
import openai

from app.services.llm.failures.errors import (
    ModelAccessDenied,
    ModelAnswerInvalid,
    ModelAnswerTooLong,
    ModelCallFailed,
    ModelContentRefused,
    ModelContextExceeded,
    ModelNotFound,
    ModelQuotaExhausted,
    ModelRateLimited,
    ModelRequestRefused,
    ModelSchemaRefused,
    ModelTimedOut,
)
from app.services.llm.failures.redaction import redacted
from app.services.llm.failures.refusals import (
    ProviderError,
    RefusalReason,
    is_unreadable_answer,
    provider_error,
    refusal_in,
    token_counts,
)
from app.services.llm.litellm_patches.setup import BaseLLMException, RouterRateLimitError, litellm

DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
REFUSED = (litellm.BadRequestError, litellm.UnprocessableEntityError)
REFUSED_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
LITELLM_CLASSES = (
    (litellm.ContextWindowExceededError, RefusalReason.CONTEXT),
    (litellm.ContentPolicyViolationError, RefusalReason.CONTENT),
    (litellm.BudgetExceededError, RefusalReason.QUOTA),
)
"""The errors that LiteLLM recognizes itself."""
KINDS: dict[RefusalReason, type[ModelCallFailed]] = {
    RefusalReason.CONTENT: ModelContentRefused,
    RefusalReason.QUOTA: ModelQuotaExhausted,
    RefusalReason.SCHEMA: ModelSchemaRefused,
    RefusalReason.KEY: ModelAccessDenied,
    RefusalReason.MODEL: ModelNotFound,
}
REASONS = {
    RefusalReason.CONTEXT: "the request is longer than the model's context",
    RefusalReason.CONTENT: "the provider's usage policy does not allow the content of the request",
    RefusalReason.QUOTA: "the quota or credit of the provider's account is used up",
    RefusalReason.SCHEMA: "the provider rejects a schema in the request: that of a tool or of the answer",
    RefusalReason.KEY: "the provider rejects the API key",
    RefusalReason.MODEL: "the provider does not know the model",
}
ADVICE = {
    RefusalReason.CONTEXT: "Use a model with a larger context, or shorten the prompt or the agent's instructions.",
    RefusalReason.CONTENT: "Change the prompt, instructions or material: the same request will be refused again.",
    RefusalReason.QUOTA: "Add credit or raise the limit in the provider's billing settings, or use another key.",
    RefusalReason.SCHEMA: "Check the input schemas of the agent's tools; the service's log says which part is invalid.",
    RefusalReason.KEY: "Check the api_key of the model's entry, and that the key may use this model.",
    RefusalReason.MODEL: "Check litellm_params.model and api_base of the model's entry.",
}


def failure_of(model: str, error: Exception, secrets: Iterable[str] = ()) -> ModelCallFailed:
    """Return the error for a failed call, with the provider's message and requested delay.

    `secrets` are the keys that the call may have used; they are removed from the provider's message.
    """
    causes = list(causes_of(error))
    said = provider_error(causes)
    failure = kind_of(model, error, causes, said)
    failure.wait_seconds = next((wait for cause in causes if (wait := wait_asked(cause)) is not None), None)
    if said is not None and said.message.strip():
        failure.provider_message = redacted(said.message, secrets)
    return failure


def wait_asked(error: BaseException) -> float | None:
    """Return the seconds in a response's `Retry-After`, or until its date by the sender's clock."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    asked = str(headers.get("retry-after", ""))
    try:
        seconds = float(asked)
    except ValueError:
        until = date_in(asked)
        if until is None:
            return None
        sent_at = date_in(str(headers.get("date", ""))) or datetime.now(UTC)
        seconds = max((until - sent_at).total_seconds(), 0.0)
    return seconds if 0 <= seconds < math.inf else None


def date_in(text: str) -> datetime | None:
    """Return a date in HTTP's form."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def kind_of(model: str, error: Exception, causes: list[BaseException], said: ProviderError | None) -> ModelCallFailed:
    """Return the class of a failed call.

    LiteLLM gives status 500 to every error that it does not know, such as a refused connection or an invalid
    completion; the causes of its error distinguish these.
    """
    subject = f"The model {model!r}"
    too_long = next((cause for cause in causes if isinstance(cause, ModelAnswerTooLong)), None)
    if too_long is not None:
        return too_long
    if any(isinstance(cause, litellm.Timeout | TimeoutError | httpx.TimeoutException) for cause in causes):
        return ModelTimedOut(f"{subject} did not answer in time.")
    if isinstance(error, RouterRateLimitError):
        return ModelRateLimited(f"{subject} is unavailable: its entries are at their limits, or failed too often.")
    if is_unreadable_answer(causes):
        return unreadable(subject)
    return refusal_of(subject, error, said) or breakdown_of(subject, error, causes)


def refusal_of(subject: str, error: Exception, said: ProviderError | None) -> ModelCallFailed | None:
    """Return the error for a request that the provider refuses; `None` if the cause is another."""
    status = said.status if said and said.status else getattr(error, "status_code", None)
    refusal = refusal_in(said) if said else None
    if refusal is None and status not in (*DENIED, HTTPStatus.TOO_MANY_REQUESTS):
        refusal = next((kind for kinds, kind in LITELLM_CLASSES if isinstance(error, kinds)), None)
    if refusal is RefusalReason.CONTEXT:
        failure = ModelContextExceeded(f"{subject}: {REASONS[refusal]} (HTTP {status}). {ADVICE[refusal]}")
        failure.limit_tokens, failure.sent_tokens = token_counts(said) if said else (None, None)
        return failure
    if refusal is not None:
        return KINDS[refusal](f"{subject}: {REASONS[refusal]} (HTTP {status}). {ADVICE[refusal]}")
    if status in DENIED or isinstance(error, litellm.AuthenticationError):
        return ModelAccessDenied(
            f"{subject}: {REASONS[RefusalReason.KEY]} (HTTP {status}). {ADVICE[RefusalReason.KEY]}"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ModelRateLimited(f"{subject} is limited by its provider (HTTP 429). Try again later.")
    if status == HTTPStatus.NOT_FOUND or isinstance(error, litellm.NotFoundError):
        return ModelNotFound(
            f"{subject}: {REASONS[RefusalReason.MODEL]} (HTTP {status}). {ADVICE[RefusalReason.MODEL]}"
        )
    if isinstance(error, REFUSED) or status in REFUSED_STATUSES:
        return ModelRequestRefused(
            f"{subject}: the provider rejects the request (HTTP {status}). The service's log has its message."
        )
    return None


def breakdown_of(subject: str, error: Exception, causes: list[BaseException]) -> ModelCallFailed:
    """Return the error for a call that the provider did not refuse: the connection broke, or the answer is invalid."""
    status = getattr(error, "status_code", None)
    if any(isinstance(cause, httpx.HTTPStatusError) for cause in causes):
        return ModelCallFailed(f"{subject} failed (HTTP {status}).")
    if any(isinstance(cause, httpx.TransportError) for cause in causes):
        return ModelCallFailed(f"{subject} cannot be reached, or its connection broke.")
    if any(told_by_provider(cause) for cause in causes):
        return ModelCallFailed(f"{subject} failed: its provider sent an error instead of an answer.")
    return unreadable(subject)


def unreadable(subject: str) -> ModelAnswerInvalid:
    """Return the failure of a call whose answer cannot be read."""
    return ModelAnswerInvalid(f"{subject} returned an answer that is not a completion.")


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and the chain of its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def told_by_provider(error: BaseException) -> bool:
    """Return whether the error was in the body of an answer, as read by OpenAI's client or by LiteLLM.

    LiteLLM's public classes descend from the client's; its internal ones carry the status 200 of the answer.
    """
    if isinstance(error, BaseLLMException):
        return error.status_code >= HTTPStatus.BAD_REQUEST
    return isinstance(error, openai.APIError) and type(error).__module__.startswith("openai")
