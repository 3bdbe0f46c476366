"""Watching the credentials of connections that stay open: a key that is revoked, or a token that expires, ends them."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.errors import AppError
from app.services.access.authenticator import Authenticator

CHECK_EVERY_SECONDS = 1.0

MAX_CONCURRENT_LOOKS = 64

OnRevoked = Callable[[], None]

log = structlog.get_logger(__name__)


@dataclass
class CredentialWatch:
    """Looks every second whether the keys and tokens of open connections are still good, each of them once.

    The key ring remembers a key for three seconds, so a connection ends within five of the revocation.
    """

    authenticator: Authenticator
    _looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_LOOKS), init=False)
    _watched: dict[str, dict[object, OnRevoked]] = field(default_factory=dict[str, dict[object, OnRevoked]], init=False)

    @contextmanager
    def watching(self, credential: str | None, on_revoked: OnRevoked) -> Generator[None]:
        """Call `on_revoked` when the credential is no longer good; without one there is nothing to watch."""
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
        """Look for as long as the process lives."""
        while True:
            await asyncio.sleep(CHECK_EVERY_SECONDS)
            try:
                await self.check()
            except Exception:
                log.exception("credential-check-crashed")

    async def check(self) -> None:
        """Look once at all of them; a token that waits for its issuer's keys holds up no other."""
        async with asyncio.TaskGroup() as looks:
            for credential in list(self._watched):
                looks.create_task(self._check_one(credential))

    async def _check_one(self, credential: str) -> None:
        async with self._looks:
            try:
                if await self.authenticator.find_caller(credential) is not None:
                    return
            except (PyMongoError, AppError) as error:
                log.debug("credential-check-failed", error=type(error).__name__)
                return
        for on_revoked in list(self._watched.pop(credential, {}).values()):
            on_revoked()
