"""Authenticating a request: which credentials it carries, and whether they are enough."""

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
from app.settings import MAX_KEY_CHARACTERS

MAX_TOKEN_CHARACTERS = 8192
MAX_LOGGED_ID = 200

log = structlog.get_logger(__name__)


class NotAuthenticated(AppError):
    """No credentials, or none that anybody knows: one answer for all of them."""

    code = "not-authenticated"
    status = HTTPStatus.UNAUTHORIZED

    def __init__(self) -> None:
        super().__init__("Send a valid API key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'.")


class InvalidTicket(NotAuthenticated):
    """The ticket at a stream opens nothing."""

    def __init__(self) -> None:
        message = "The ticket is invalid, has expired, or is for another execution. Create one for this stream."
        super(NotAuthenticated, self).__init__(message)


class NotAllowed(AppError):
    """The caller's role does not reach this far."""

    code = "not-allowed"
    status = HTTPStatus.FORBIDDEN

    def __init__(self, needed: Role) -> None:
        super().__init__(f"This needs a key with the role {needed.value!r}.")


class NotAllowedWithProjects(AppError):
    """The caller's role is enough, and its key is made for certain projects."""

    code = "not-allowed"
    status = HTTPStatus.FORBIDDEN

    def __init__(self) -> None:
        super().__init__("This concerns all projects, and the key is made for certain ones.")


@dataclass(frozen=True)
class Authenticator:
    """Turns a request's headers into a caller."""

    keys: ApiKeyStore
    anonymous_role: Role | None
    tokens: TokenVerifier = field(default_factory=TokenVerifier)
    failures: FailedAuthentications = field(default_factory=lambda: FailedAuthentications(None))

    async def identify(self, headers: Mapping[str, str], address: str = "") -> Caller:
        """The caller behind the headers; without credentials an anonymous one.

        Raises:
            NotAuthenticated: the credentials are not valid.
            TooManyRequests: neither are they, and the address has failed too often lately.
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
        """The caller behind an API key or a token; a valid one passes whatever has failed before.

        Raises:
            NotAuthenticated: it is not valid.
            TooManyRequests: neither is it, and the address has failed too often lately.
        """
        caller = await self.find_caller(key)
        if caller is None:
            await self.failures.count(key, address)
            raise NotAuthenticated
        structlog.contextvars.bind_contextvars(caller=caller.id[:MAX_LOGGED_ID])
        return caller

    async def identify_ticket(self, ticket: str, credential: str | None, address: str = "") -> Caller:
        """The caller behind a ticket's credential, which must still be valid; `None` is no ticket's.

        Raises:
            InvalidTicket: there is no such ticket, or its credential is no longer valid.
            TooManyRequests: so it is, and the address has failed too often lately.
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
        """The caller without credentials; it sees nothing where no role is set for it."""
        return Caller("anonymous", self.anonymous_role, None if self.anonymous_role else frozenset())

    async def find_caller(self, key: str) -> Caller | None:
        """The caller behind an API key or a token, if it is good; asking counts as no attempt."""
        if bootstrap := self.keys.bootstrap_caller(key):
            return bootstrap
        if looks_like_token(key) and len(key) <= MAX_TOKEN_CHARACTERS:
            return await self.tokens.find_caller(key)
        if 0 < len(key) <= MAX_KEY_CHARACTERS:
            return await self.keys.find_caller(key)
        return None


def key_in(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries, `None` when it carries none.

    Raises:
        NotAuthenticated: another scheme than Bearer, or several keys.
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
    """The caller, if its role is enough.

    Raises:
        NotAuthenticated: the caller is anonymous, and may have a key.
        NotAllowed: the key's role is too small.
    """
    if caller.has(role):
        return caller
    if caller.name == "anonymous":
        raise NotAuthenticated
    raise NotAllowed(role)


def require_all_projects(caller: Caller) -> Caller:
    """The caller, if it is not made for certain projects.

    Raises:
        NotAllowedWithProjects: it is.
    """
    if caller.projects is not None:
        raise NotAllowedWithProjects
    return caller
