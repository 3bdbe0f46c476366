"""Rate limits in the syntax of the `limits` library (`600/minute`), counted in this process over a moving window."""

import math
import time
from http import HTTPStatus

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from app.errors import AppError


class TooManyRequests(AppError):
    """The caller has used up its share for now."""

    code = "rate-limited"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, what: str, limit: RateLimitItem, retry_after_seconds: int) -> None:
        super().__init__(f"{what} are limited to {limit}. Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class RateLimiter:
    """Counts what callers do, each against its own limit or the common one."""

    def __init__(self, what: str, common: str | None) -> None:
        self._what = what
        self._common = parse(common) if common else None
        self._window = MovingWindowRateLimiter(MemoryStorage())

    async def hit(self, who: str, own: str | None = None) -> None:
        """Count one; `own` is the caller's own limit, if it has one.

        Raises:
            TooManyRequests: it is one too many, and is not counted.
        """
        limit = parse(own) if own else self._common
        if limit is not None and not await self._window.hit(limit, who):
            await self._refuse(limit, who)

    async def check(self, who: str) -> None:
        """Refuse whoever has reached the common limit; counts nothing.

        Raises:
            TooManyRequests: the limit is reached.
        """
        if self._common is not None and not await self._window.test(self._common, who):
            await self._refuse(self._common, who)

    async def _refuse(self, limit: RateLimitItem, who: str) -> None:
        window = await self._window.get_window_stats(limit, who)
        raise TooManyRequests(self._what, limit, max(math.ceil(window.reset_time - time.time()), 1))
