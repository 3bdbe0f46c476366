"""The watch over the credentials of open connections, which end when a key is revoked or a token expires."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.errors import AppError
from app.services.access.authenticator import Authenticator

CHECK_EVERY_SECONDS = 1.0

MAX_CONCURRENT_CHECKS = 64

OnRevoked = Callable[[], None]

log = structlog.get_logger(__name__)


@dataclass
class CredentialWatch:
    """Checks every second that the keys and tokens of open connections are still valid, each of them once.

    `ApiKeyStore` caches a key for three seconds, so a connection ends within five seconds of a revocation.
    """

    authenticator: Authenticator
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_CHECKS), init=False)
    _watched: dict[str, dict[object, OnRevoked]] = field(default_factory=dict[str, dict[object, OnRevoked]], init=False)

    @contextmanager
    def watching(self, credential: str | None, on_revoked: OnRevoked) -> Generator[None]:
        """Call `on_revoked` when the credential becomes invalid; `None` never does."""
        if credential is None:
            yield
            return
        ticket = object()
        self._watched.setdefault(credential, {})[ticket] = on_revoked
        try:
            yield
        finally:
            holders = self._watched.get(credential, {})
            holders.pop(ticket, None)
            if not holders:
                self._watched.pop(credential, None)

    async def run(self) -> None:
        """Check every second; never returns."""
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            try:
                await self.check()
            except Exception:
                log.exception("credential-check-crashed")

    async def check(self) -> None:
        """Check every credential once, concurrently: a token may wait for the keys of its issuer."""
        async with asyncio.TaskGroup() as checks:
            for credential in list(self._watched):
                checks.create_task(self._check_credential(credential))

    async def _check_credential(self, credential: str) -> None:
        async with self._slots:
            try:
                if await self.authenticator.find_caller(credential) is not None:
                    return
            except (PyMongoError, AppError) as error:
                log.debug("credential-check-failed", error=type(error).__name__)
                return
        for on_revoked in list(self._watched.pop(credential, {}).values()):
            on_revoked()
