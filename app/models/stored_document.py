"""Documents that someone has changed past the service, so that they are no longer what it stores."""

from http import HTTPStatus

from pydantic import ValidationError

from app.errors import AppError, FieldError

MAX_KEY_CHARACTERS = 100


class StoredDocumentInvalid(AppError):
    """A stored document exists and cannot be used; `errors` name its invalid fields."""

    code = "stored-document-invalid"
    status = HTTPStatus.CONFLICT

    @classmethod
    def of(cls, kind: str, key: str, error: ValidationError) -> "StoredDocumentInvalid":
        """The error about the document of this kind and key, without any of its values."""
        found = error.errors(include_url=False, include_input=False, include_context=False)
        problems = tuple(FieldError(".".join(map(str, one["loc"])) or "document", one["msg"]) for one in found[:50])
        where = f"The stored document of the {kind} {key[:MAX_KEY_CHARACTERS]!r} is invalid"
        advice = "Correct the field in the database, or with a PATCH that sets it."
        return cls(f"{where}: {problems[0].path}: {problems[0].message}. {advice}", errors=problems)
