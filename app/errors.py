"""Expected failures, each with a message, a stable code and an HTTP status.

One handler (`app.routers.http.problems`) renders an `AppError` as RFC 9457 problem details; inside a run the same
`code` and message become the execution's `error`. Other packages define subclasses next to the code that
raises them; this module has those that several packages share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

MAX_PROBLEMS = 50
"""The maximum number of invalid fields that a response lists."""


@dataclass(frozen=True)
class FieldError:
    """An invalid field of a request: its dotted path (`assignments.0.agentId`) and the problem."""

    path: str
    message: str


class AppError(Exception):
    """An expected failure, with a message for people that contains no secret."""

    code = "internal-error"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry_after_seconds: int | None = None
    provider_message: str | None = None
    """The message of a provider, without secrets; only admins see it."""

    def __init__(self, message: str, *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors


class StartupError(Exception):
    """The service cannot start; the message is one line that names the variable, file or service to fix."""


class NotFound(AppError):
    """The path names something that does not exist."""

    code = "not-found"
    status = HTTPStatus.NOT_FOUND


class InvalidInput(AppError):
    """The request is well-formed but invalid; `errors` lists the invalid fields."""

    code = "validation-error"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def of_field(cls, path: str, message: str) -> "InvalidInput":
        """Return the error for one invalid field."""
        return cls.of_fields([FieldError(path, message)])

    @classmethod
    def of_fields(cls, problems: Sequence[FieldError]) -> "InvalidInput":
        """Return the error for several invalid fields: the message names the first one, `errors` at most 50."""
        first = problems[0]
        return cls(f"{first.path}: {first.message}", errors=tuple(problems[:MAX_PROBLEMS]))


class DatabaseUnavailable(AppError):
    """MongoDB is unavailable, so it is unknown whether a write took effect."""

    code = "database-unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 2

    def __init__(self, *, writing: bool = False) -> None:
        doubt = " The request may have taken effect: check, or send it again with the same Idempotency-Key."
        super().__init__(f"The database does not answer. Try again in a moment.{doubt if writing else ''}")
