"""Errors of model calls, each with a stable code and a message that says what is wrong and what to do.

A message never holds the provider's own words, which may quote a key or a prompt. Those are in `provider_message`, with
secrets removed: for the service's log, and for admins.
"""

from http import HTTPStatus

from app.errors import AppError
from app.kit.json_values import JsonObject
from app.services.llm.calls import Spending


class ModelNotConfigured(AppError):
    """The catalogue names a model that MODELS_CONFIG has no usable entry for."""

    code = "model-not-configured"
    status = HTTPStatus.CONFLICT

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"The model {model!r} cannot be used: {reason}")


class ModelCallFailed(AppError):
    """The model gave no usable answer; `is_passing` says whether another try may get one."""

    code = "model-unavailable"
    status = HTTPStatus.BAD_GATEWAY
    is_passing = True
    wait_seconds: float | None = None
    """The seconds that the provider asks to wait before a retry."""
    is_adapted = False
    """Whether the next try is another request, without what the provider refused in this one: it is made at once."""
    spent: Spending | None = None
    """The usage of a call whose answer is unusable."""


def spent_in(error: AppError) -> JsonObject:
    """The usage of a failed call as fields of the event that reports it; empty if no usage is known."""
    spent = error.spent if isinstance(error, ModelCallFailed) else None
    return spent.as_fields() if spent else {}


class ModelTimedOut(ModelCallFailed):
    """The model did not answer in time."""

    code = "model-timeout"


class ModelRateLimited(ModelCallFailed):
    """The provider limits how many requests or tokens it takes at a time; a later try may pass."""

    code = "model-rate-limited"


class ModelQuotaExhausted(ModelCallFailed):
    """The credit or quota of the account is used up; waiting does not bring it back."""

    code = "model-quota-exhausted"
    is_passing = False


class ModelAccessDenied(ModelCallFailed):
    """The provider refuses the key, or the key may not use the model."""

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
    """The request is longer than the model takes.

    `limit_tokens` is how much it takes and `sent_tokens` how much the request had, where the provider says so.
    """

    code = "model-context-exceeded"
    limit_tokens: int | None = None
    sent_tokens: int | None = None


class ModelContentRefused(ModelRequestRefused):
    """The provider refuses what the request, or the answer, is about."""

    code = "model-content-refused"


class ModelSchemaRefused(ModelRequestRefused):
    """The provider refuses a schema in the request: that of a tool's input, or of a structured answer."""

    code = "model-schema-refused"


class ModelAnswerInvalid(ModelCallFailed):
    """The model answered something that is not a completion."""

    code = "model-answer-invalid"


class ModelAnswerEmpty(ModelAnswerInvalid):
    """The model answered with neither text nor a tool call; `is_cut` if its output limit was used up before."""

    def __init__(self, model: str, *, is_cut: bool = False) -> None:
        self.is_cut = is_cut
        reason = ": it used up its output limit before" if is_cut else ""
        super().__init__(f"The model {model!r} answered with neither text nor a tool call{reason}.")


class ModelAnswerTooLong(ModelAnswerInvalid):
    """The model answered more than is taken, and would again; each try is paid for."""

    is_passing = False

    def __init__(self, bound: str) -> None:
        super().__init__(f"The model's answer went beyond {bound}.")
