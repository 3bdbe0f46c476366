"""Opening the authenticator of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from app.database.connection import Database
from app.events.stream.opening import running_in_background
from app.models.api_key import Role
from app.services.access.admin_key import AdminKey
from app.services.access.api_keys import ApiKeyStore
from app.services.access.authenticator import Authenticator
from app.services.access.credential_watch import CredentialWatch
from app.services.access.failed_authentications import FailedAuthentications
from app.services.access.published_keys import PublishedKeys
from app.services.access.tokens import TokenVerifier
from app.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_authenticator(
    settings: Settings, database: Database, admin_key: AdminKey
) -> AsyncGenerator[Authenticator]:
    """Open the authenticator of API keys, tokens and anonymous callers."""
    authenticator = Authenticator(
        ApiKeyStore(database, admin_key=admin_key.text),
        Role(settings.anonymous_role) if settings.anonymous_role != "none" else None,
        make_token_verifier(settings),
        FailedAuthentications(settings.auth_failure_limit),
    )
    try:
        yield authenticator
    finally:
        await authenticator.tokens.close()


@asynccontextmanager
async def open_credentials(
    settings: Settings, database: Database, admin_key: AdminKey
) -> AsyncGenerator[CredentialWatch]:
    """Open the authenticator, and the watch that checks the credentials of open connections while the context lasts."""
    async with open_authenticator(settings, database, admin_key) as authenticator:
        watch = CredentialWatch(authenticator)
        async with running_in_background(watch.run(), "credential watch"):
            yield watch


def make_token_verifier(settings: Settings) -> TokenVerifier:
    """Create a verifier of tokens signed with `JWT_SECRET` or a key of `JWT_JWKS_URL`; it needs either."""
    if settings.jwt_jwks_url and settings.jwt_audience is None:
        log.warning("jwt-audience-unset", advice="Set JWT_AUDIENCE: tokens issued for other services are accepted.")
    return TokenVerifier(
        settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
        PublishedKeys(settings.jwt_jwks_url) if settings.jwt_jwks_url else None,
        settings.jwt_audience,
        settings.jwt_issuer,
    )
