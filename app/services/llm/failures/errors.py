"""Errors of model calls, each with a stable code and a message that says what is wrong and what to do.

A message never holds the provider's own words, which may quote a key or a prompt. Those are in `provider_message`, with
secrets removed: for the service's log, and for admins.
"""

from http import HTTPStatus

from app.errors import AppError
from app.kit.json_values import JsonObject
from app.services.llm.calls import ModelCall, call_fields


class AnswerNotCached(Exception):
    """The response cache has no answer to a request that accepts only a cached one."""


class ModelNotConfigured(AppError):
    """The model has no usable entry in MODELS_CONFIG."""

    code = "model-not-configured"
    status = HTTPStatus.CONFLICT

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"The model {model!r} cannot be used: {reason}")


class ModelCallFailed(AppError):
    """The model returned no usable answer; `is_passing` says whether a retry can succeed."""

    code = "model-unavailable"
    status = HTTPStatus.BAD_GATEWAY
    is_passing = True
    wait_seconds: float | None = None
    """The seconds that the provider asks to wait before a retry."""
    is_adapted = False
    """Whether the next attempt sends a request without the refused part; it is made at once."""
    calls: tuple[ModelCall, ...] = ()
    """The attempts that no event has reported yet, the last of which raised this."""


def calls_in(error: AppError) -> JsonObject:
    """Return the attempts behind an error as fields of the event that reports them; empty if there were none."""
    return call_fields(error.calls) if isinstance(error, ModelCallFailed) else {}


class ModelTimedOut(ModelCallFailed):
    """The model did not answer in time."""

    code = "model-timeout"


class ModelRateLimited(ModelCallFailed):
    """The provider's rate limit is exceeded; a later attempt can succeed."""

    code = "model-rate-limited"


class ModelQuotaExhausted(ModelCallFailed):
    """The credit or quota of the account is used up; retries do not help."""

    code = "model-quota-exhausted"
    is_passing = False


class ModelAccessDenied(ModelCallFailed):
    """The provider rejects the key, or the key may not use the model."""

    code = "model-access-denied"
    is_passing = False


class ModelRequestRefused(ModelCallFailed):
    """The provider says that the request itself is wrong."""

    code = "model-request-refused"
    is_passing = False


class ModelNotFound(ModelRequestRefused):
    """The provider does not know the model, or nothing answers at the address of its entry."""

    code = "model-not-found"


class ModelContextExceeded(ModelRequestRefused):
    """The request exceeds the model's context.

    `limit_tokens` is the context and `sent_tokens` the length of the request, if the provider states them.
    """

    code = "model-context-exceeded"
    limit_tokens: int | None = None
    sent_tokens: int | None = None


class ModelContentRefused(ModelRequestRefused):
    """The provider refuses the content of the request or of the answer."""

    code = "model-content-refused"


class ModelSchemaRefused(ModelRequestRefused):
    """The provider refuses a schema in the request: that of a tool's input, or of a structured answer."""

    code = "model-schema-refused"


class ModelAnswerInvalid(ModelCallFailed):
    """The model returned an answer that is not a completion."""

    code = "model-answer-invalid"


class ModelAnswerEmpty(ModelAnswerInvalid):
    """The model answered with neither text nor a tool call; `is_cut` if it had already used up its output limit."""

    def __init__(self, model: str, *, is_cut: bool = False) -> None:
        self.is_cut = is_cut
        reason = ": it had already used up its output limit" if is_cut else ""
        super().__init__(f"The model {model!r} answered with neither text nor a tool call{reason}.")


class ModelAnswerTooLong(ModelAnswerInvalid):
    """The model's answer exceeds a bound; a retry would too, and would cost as much."""

    is_passing = False

    def __init__(self, bound: str) -> None:
        super().__init__(f"The model's answer exceeds {bound}.")


def codes_of(kind: type[ModelCallFailed]) -> list[str]:
    """Return the codes of a kind of error and of all kinds below it, each once."""
    below = [code for one in kind.__subclasses__() for code in codes_of(one)]
    return list(dict.fromkeys([kind.code, *below]))
