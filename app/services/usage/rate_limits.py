"""Rate limits in the syntax of the `limits` library (`600/minute`), over a moving window."""

import math
import time
from http import HTTPStatus

from limits import RateLimitItem, parse_many

from app.errors import AppError
from app.services.usage.counters import WindowCounter


class TooManyRequests(AppError):
    """The caller has reached a rate limit."""

    code = "rate-limited"
    status = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, what: str, limit: RateLimitItem, retry_after_seconds: int) -> None:
        super().__init__(f"{what} are limited to {limit}. Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


class RateLimiter:
    """Counts callers' actions against their own limits or the common ones; `window` holds the counts."""

    def __init__(self, what: str, common: str | None, window: WindowCounter | None = None) -> None:
        self._what = what
        self._common = limits_in(common)
        self._window = window or WindowCounter()

    async def hit(self, who: str, own: str | None = None) -> None:
        """Count an action against every limit; `own` are the caller's own limits, if any.

        Raises:
            TooManyRequests: a limit is reached; the action is not counted.
        """
        limits = limits_in(own) or self._common
        for count in (self._window.test, self._window.hit) if len(limits) > 1 else (self._window.hit,):
            for limit in limits:
                if not await count(limit, who):
                    await self._refuse(limit, who)

    async def check(self, who: str) -> None:
        """Check the common limits without counting.

        Raises:
            TooManyRequests: a limit is reached.
        """
        for limit in self._common:
            if not await self._window.test(limit, who):
                await self._refuse(limit, who)

    async def is_unused(self, who: str) -> bool:
        """Return whether no count is stored."""
        counted = [await self._window.stats(limit, who) for limit in self._common]
        return all(one.remaining == limit.amount for limit, one in zip(self._common, counted, strict=True))

    async def _refuse(self, limit: RateLimitItem, who: str) -> None:
        window = await self._window.stats(limit, who)
        raise TooManyRequests(self._what, limit, max(math.ceil(window.reset_time - time.time()), 1))


def limits_in(text: str | None) -> tuple[RateLimitItem, ...]:
    """Parse limits such as `20/second;600/minute`, all of which apply; duplicates are dropped."""
    return tuple(dict.fromkeys(parse_many(text))) if text else ()
