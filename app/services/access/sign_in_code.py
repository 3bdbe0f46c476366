"""The one-time code in the link that opens the console signed in."""

import hmac
import secrets
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from app.errors import AppError

VALID_SECONDS = 600.0


class SignInCodeInvalid(AppError):
    """The code is not the one that the service printed, has been used, or is too old."""

    code = "sign-in-code-invalid"
    status = HTTPStatus.FORBIDDEN

    def __init__(self) -> None:
        super().__init__(
            "The sign-in link has been used, is older than ten minutes, or is not from this start of the service. Sign "
            "in with an API key, or start the service again for another link."
        )


@dataclass
class SignInCode:
    """A code that is exchanged once for the bootstrap admin key, within ten minutes of the start.

    Only the terminal that started the service sees it, and the browser that opens the link. Without an admin key there
    is no code.
    """

    api_key: str | None = field(repr=False)
    text: str | None = field(default=None, init=False, repr=False)
    _expires_at: float = field(default=0.0, init=False)

    def create(self) -> str | None:
        """Return a new code, in place of the last one; `None` without an admin key."""
        if self.api_key is None:
            return None
        self._expires_at = time.monotonic() + VALID_SECONDS
        self.text = secrets.token_urlsafe(32)
        return self.text

    def exchange(self, code: str) -> str:
        """Return the admin key, and forget the code.

        Raises:
            SignInCodeInvalid: the code is unknown, used or too old.
        """
        expected = self.text
        if expected is None or self.api_key is None or time.monotonic() > self._expires_at:
            raise SignInCodeInvalid
        if not hmac.compare_digest(expected.encode(), code.encode("utf-8", "replace")):
            raise SignInCodeInvalid
        self.text = None
        return self.api_key
