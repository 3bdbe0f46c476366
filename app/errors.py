"""Every expected failure: what is true, its stable code and its HTTP status.

One handler (`app.routers.http.problems`) renders an `AppError` as RFC 9457 problem details; inside a run the same
`code` and message become the execution's `error`. Rooms below raise subclasses that live beside the code that
detects them; the ones shared by several rooms stand here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

MAX_PROBLEMS = 50
"""How many wrong fields one answer names at most."""


@dataclass(frozen=True)
class FieldError:
    """One wrong field of a request: its dotted path (`assignments.0.agentId`) and what is wrong with it."""

    path: str
    message: str


class AppError(Exception):
    """An expected failure; its message is written for the person who reads it and names no secret."""

    code = "internal-error"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    retry_after_seconds: int | None = None
    provider_message: str | None = None
    """The words of a provider behind the error, without secrets; only admins see them."""

    def __init__(self, message: str, *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors


class StartupError(Exception):
    """The service cannot start; the message is one line that names the variable, file or part to mend."""


class NotFound(AppError):
    """The path names something that does not exist."""

    code = "not-found"
    status = HTTPStatus.NOT_FOUND


class InvalidInput(AppError):
    """The request is well formed and asks for something that cannot be; `errors` says where."""

    code = "validation-error"
    status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def of_field(cls, path: str, message: str) -> "InvalidInput":
        """One wrong field."""
        return cls.of_fields([FieldError(path, message)])

    @classmethod
    def of_fields(cls, problems: Sequence[FieldError]) -> "InvalidInput":
        """Several wrong fields, of which the first is named in the message and at most 50 are in `errors`."""
        first = problems[0]
        return cls(f"{first.path}: {first.message}", errors=tuple(problems[:MAX_PROBLEMS]))


class DatabaseUnavailable(AppError):
    """MongoDB does not answer; whether a request that writes did so before is then not known."""

    code = "database-unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_seconds = 2

    def __init__(self, *, writing: bool = False) -> None:
        doubt = " What was asked for may have been done: look, or send it again with the same Idempotency-Key."
        super().__init__(f"The database does not answer. Try again in a moment.{doubt if writing else ''}")
