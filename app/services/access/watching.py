"""Watching the credentials of connections that stay open: a key that is revoked, or a token that expires, ends them."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from pymongo.errors import PyMongoError

from app.services.access.roles import Gatekeeper

CHECK_EVERY_SECONDS = 1.0

OnRevoked = Callable[[], None]

log = structlog.get_logger(__name__)


@dataclass
class CredentialWatch:
    """Looks every second whether the keys and tokens of open connections are still good, each of them once.

    The key ring remembers a key for three seconds, so a connection ends within five of the revocation.
    """

    gatekeeper: Gatekeeper
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
            except PyMongoError as error:
                log.debug("credentials-not-checked", error=type(error).__name__)
            except Exception:
                log.exception("credential-check-crashed")

    async def check(self) -> None:
        """Look once."""
        for credential in list(self._watched):
            if await self.gatekeeper.find_caller(credential) is None:
                for on_revoked in list(self._watched.pop(credential, {}).values()):
                    on_revoked()
