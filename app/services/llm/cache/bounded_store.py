"""A store with a short timeout: while the underlying store is down, the cache has no answers, and runs continue."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from pymongo.errors import PyMongoError

from app.kit.redis import REDIS_ERRORS
from app.services.llm.cache.stores import AnswerStore, Claim

ANSWER_SECONDS = 0.25
RECOVERY_SECONDS = 5.0
"""How long a store that did not answer is not asked again."""
STORE_ERRORS = (PyMongoError, *REDIS_ERRORS)

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


@dataclass
class BoundedStore:
    """Waits for each answer of a store for a quarter of a second; an outage is logged once."""

    store: AnswerStore
    answer_seconds: float = ANSWER_SECONDS
    recovery_seconds: float = RECOVERY_SECONDS
    _alone_until: float = field(default=0.0, init=False)
    _is_down: bool = field(default=False, init=False)

    async def find(self, key: str) -> bytes | None:
        """Return the entry, if it exists and the store answers."""
        return await self._ask(lambda: self.store.find(key))

    async def look(self, key: str, claim: str, claim_ms: int) -> bytes | Claim:
        """Return the entry, or who may create it."""
        answer = await self._ask(lambda: self.store.look(key, claim, claim_ms))
        return Claim.UNAVAILABLE if answer is None else answer

    async def keep(self, key: str, entry: bytes, ttl_ms: int) -> None:
        """Store an entry, if the store answers."""
        await self._ask(lambda: self.store.keep(key, entry, ttl_ms))

    async def renew(self, key: str, claim: str, claim_ms: int) -> None:
        """Extend the caller's claim, if the store answers."""
        await self._ask(lambda: self.store.renew(key, claim, claim_ms))

    async def release(self, key: str, claim: str) -> None:
        """End the caller's claim, if the store answers; otherwise it expires."""
        await self._ask(lambda: self.store.release(key, claim))

    async def _ask(self, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        now = asyncio.get_running_loop().time
        if now() < self._alone_until:
            return None
        try:
            async with asyncio.timeout(self.answer_seconds):
                answer = await call()
        except STORE_ERRORS as error:
            self._alone_until = now() + self.recovery_seconds
            if not self._is_down:
                self._is_down = True
                log.warning("response-cache-unavailable", error=type(error).__name__)
            return None
        if self._is_down:
            self._is_down = False
            log.info("response-cache-recovered")
        return answer
