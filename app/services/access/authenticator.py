"""Authentication of requests and authorization by role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog

from app.errors import AppError
from app.models.api_key import Role
from app.services.access.api_keys import ApiKeyStore, Caller
from app.services.access.failed_authentications import FailedAuthentications
from app.services.access.stream_tickets import ANONYMOUS
from app.services.access.tokens import TokenVerifier, looks_like_token
from app.setting_values import MAX_KEY_CHARACTERS

MAX_TOKEN_CHARACTERS = 8192
MAX_LOGGED_ID = 200

log = structlog.get_logger(__name__)


class NotAuthenticated(AppError):
    """The credentials are missing or invalid. The response does not say which."""

    code = "not-authenticated"
    status = HTTPStatus.UNAUTHORIZED

    def __init__(self) -> None:
        super().__init__("Send a valid API key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'.")


class InvalidTicket(NotAuthenticated):
    """The ticket for a stream is invalid."""

    def __init__(self) -> None:
        message = "The ticket is invalid, has expired, or is for another execution. Create one for this stream."
        super(NotAuthenticated, self).__init__(message)


class NotAllowed(AppError):
    """The caller's role is not sufficient."""

    code = "not-allowed"
    status = HTTPStatus.FORBIDDEN

    def __init__(self, needed: Role) -> None:
        super().__init__(f"This request requires a key with the role {needed.value!r}.")


class NotAllowedWithProjects(AppError):
    """The caller's role is sufficient, but its key is limited to certain projects."""

    code = "not-allowed"
    status = HTTPStatus.FORBIDDEN

    def __init__(self) -> None:
        super().__init__("This request affects all projects, but the key is limited to certain ones.")


@dataclass(frozen=True)
class Authenticator:
    """Identifies the caller of a request."""

    keys: ApiKeyStore
    anonymous_role: Role | None
    tokens: TokenVerifier = field(default_factory=TokenVerifier)
    failures: FailedAuthentications = field(default_factory=lambda: FailedAuthentications(None))

    async def identify(self, headers: Mapping[str, str], address: str = "") -> Caller:
        """Return the caller behind the headers, the anonymous caller if there are no credentials.

        Raises:
            NotAuthenticated: the credentials are invalid.
            TooManyRequests: the credentials are invalid, and the address has failed too often recently.
        """
        try:
            key = key_in(headers)
        except NotAuthenticated:
            log.warning("authentication-failed", reason="malformed credentials")
            raise
        if key is None:
            return self.anonymous
        return await self.identify_key(key, address)

    async def identify_key(self, key: str, address: str = "") -> Caller:
        """Return the caller behind an API key or a token. Earlier failures do not affect valid credentials.

        Raises:
            NotAuthenticated: it is invalid.
            TooManyRequests: it is invalid, and the address has failed too often recently.
        """
        caller = await self.find_caller(key)
        if caller is None:
            await self.failures.count(key, address)
            raise NotAuthenticated
        structlog.contextvars.bind_contextvars(caller=caller.id[:MAX_LOGGED_ID])
        return caller

    async def identify_ticket(self, ticket: str, credential: str | None, address: str = "") -> Caller:
        """Return the caller behind the credential of a ticket; the credential of an unknown ticket is `None`.

        Raises:
            InvalidTicket: the ticket is unknown, or its credential is no longer valid.
            TooManyRequests: the ticket is invalid, and the address has failed too often recently.
        """
        caller = self.anonymous if credential == ANONYMOUS else None
        if credential:
            caller = await self.find_caller(credential)
        if caller is None:
            await self.failures.count(ticket, address)
            raise InvalidTicket
        structlog.contextvars.bind_contextvars(caller=caller.id[:MAX_LOGGED_ID])
        return caller

    @property
    def anonymous(self) -> Caller:
        """The caller without credentials, which sees no project unless `ANONYMOUS_ROLE` is set."""
        return Caller("anonymous", self.anonymous_role, None if self.anonymous_role else frozenset())

    async def find_caller(self, key: str) -> Caller | None:
        """Return the caller behind a valid API key or token, else `None`. Failures are not counted."""
        if bootstrap := self.keys.bootstrap_caller(key):
            return bootstrap
        if looks_like_token(key) and len(key) <= MAX_TOKEN_CHARACTERS:
            return await self.tokens.find_caller(key)
        if 0 < len(key) <= MAX_KEY_CHARACTERS:
            return await self.keys.find_caller(key)
        return None


def key_in(headers: Mapping[str, str]) -> str | None:
    """Return the key in the headers of a request, or `None`.

    Raises:
        NotAuthenticated: the scheme is not Bearer, or there are several keys.
    """
    given: list[str] = []
    for name, value in headers.items():
        if name == "x-api-key":
            given.append(value)
        elif name == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() != "bearer":
                raise NotAuthenticated
            given.append(token.strip())
    if len(given) > 1 or "" in given:
        raise NotAuthenticated
    return given.pop() if given else None


def require(caller: Caller, role: Role) -> Caller:
    """Return the caller if its role includes the required one.

    Raises:
        NotAuthenticated: the caller is anonymous, and could send a key.
        NotAllowed: the role of its key is not sufficient.
    """
    if caller.has(role):
        return caller
    if caller.name == "anonymous":
        raise NotAuthenticated
    raise NotAllowed(role)


def require_all_projects(caller: Caller) -> Caller:
    """Return the caller if it has access to all projects.

    Raises:
        NotAllowedWithProjects: it is limited to certain projects.
    """
    if caller.projects is not None:
        raise NotAllowedWithProjects
    return caller
