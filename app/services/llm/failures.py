"""What LiteLLM's errors mean, by what happened on the wire, in our own words.

The provider's text never passes: it may quote a key or a prompt.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
import openai

from app.services.llm.errors import (
    ModelAccessDenied,
    ModelAnswerInvalid,
    ModelAnswerTooLong,
    ModelCallFailed,
    ModelRateLimited,
    ModelRequestRefused,
    ModelTimedOut,
)
from app.services.llm.litellm_setup import BaseLLMException, RouterRateLimitError, litellm

DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def failure_of(model: str, error: Exception) -> ModelCallFailed:
    """A failed call, told by its class and code, with the wait that the provider asks for."""
    failure = kind_of(model, error)
    failure.wait_seconds = next((wait for cause in causes_of(error) if (wait := wait_asked(cause)) is not None), None)
    return failure


def wait_asked(error: BaseException) -> float | None:
    """The seconds in a response's `Retry-After`, or those until its date, by the clock of who sent it."""
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
        told = date_in(str(headers.get("date", ""))) or datetime.now(UTC)
        seconds = max((until - told).total_seconds(), 0.0)
    return seconds if 0 <= seconds < math.inf else None


def date_in(text: str) -> datetime | None:
    """A date in HTTP's form."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def kind_of(model: str, error: Exception) -> ModelCallFailed:
    """The class of a failed call.

    LiteLLM gives the status 500 to all that it has no name for, a refused connection and an answer that is no
    completion alike; the errors that caused its own tell these apart.
    """
    subject = f"The model {model!r}"
    causes = list(causes_of(error))
    too_long = next((cause for cause in causes if isinstance(cause, ModelAnswerTooLong)), None)
    if too_long is not None:
        return too_long
    status = getattr(error, "status_code", None)
    if any(isinstance(cause, litellm.Timeout | TimeoutError | httpx.TimeoutException) for cause in causes):
        return ModelTimedOut(f"{subject} did not answer in time.")
    if isinstance(error, RouterRateLimitError):
        return ModelRateLimited(f"{subject} rests: its entries are at their limits, or failed too often.")
    if isinstance(error, litellm.RateLimitError):
        return ModelRateLimited(f"{subject} is limited by its provider (HTTP 429).")
    if isinstance(error, litellm.AuthenticationError) or status in DENIED:
        return ModelAccessDenied(f"{subject}: the provider refuses the key (HTTP {status}).")
    if isinstance(error, litellm.BadRequestError | litellm.NotFoundError | litellm.UnprocessableEntityError):
        return ModelRequestRefused(f"{subject}: the provider refuses the request (HTTP {status}).")
    if any(isinstance(cause, httpx.HTTPStatusError) for cause in causes):
        return ModelCallFailed(f"{subject} fails (HTTP {status}).")
    if any(isinstance(cause, httpx.TransportError) for cause in causes):
        return ModelCallFailed(f"{subject} cannot be reached, or its connection broke.")
    if any(told_by_provider(cause) for cause in causes):
        return ModelCallFailed(f"{subject} fails: its provider sent an error instead of an answer.")
    return ModelAnswerInvalid(f"{subject} answered something that is not a completion.")


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that …"""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def told_by_provider(error: BaseException) -> bool:
    """Whether it is an error that stood in an answer, be it OpenAI's client that read it or LiteLLM itself.

    LiteLLM's public classes descend from the client's; its inner ones carry the status 200 of what is no completion.
    """
    if isinstance(error, BaseLLMException):
        return error.status_code >= HTTPStatus.BAD_REQUEST
    return isinstance(error, openai.APIError) and type(error).__module__.startswith("openai")
