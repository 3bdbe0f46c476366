"""Stored documents that another program has made invalid."""

from http import HTTPStatus

from pydantic import ValidationError

from app.errors import AppError, FieldError

MAX_KEY_CHARACTERS = 100


class StoredDocumentInvalid(AppError):
    """The stored document is invalid; `errors` list its invalid fields."""

    code = "stored-document-invalid"
    status = HTTPStatus.CONFLICT

    @classmethod
    def of(cls, kind: str, key: str, error: ValidationError) -> "StoredDocumentInvalid":
        """Return the error for a document of this kind and key, without its values."""
        found = error.errors(include_url=False, include_input=False, include_context=False)
        problems = tuple(FieldError(".".join(map(str, one["loc"])) or "document", one["msg"]) for one in found[:50])
        where = f"The stored document of the {kind} {key[:MAX_KEY_CHARACTERS]!r} is invalid"
        advice = "Correct the field in the database, or with a PATCH that sets it."
        return cls(f"{where}: {problems[0].path}: {problems[0].message}. {advice}", errors=problems)
