"""Failed authentications: counted, so that guessing is slow, without locking out anyone whose credentials are good."""

import ipaddress

import structlog

from app.services.usage.rate_limits import RateLimiter, TooManyRequests

PREFIX_CHARACTERS = 8
IPV6_NETWORK_BITS = 64
"""What one customer of a provider has to itself: counting single IPv6 addresses would count nothing."""

log = structlog.get_logger(__name__)


class FailedAuthentications:
    """Counts failures by address and key prefix, and per address the prefixes that failed.

    A client that keeps sending one bad key uses up its own count alone; one that tries many keys uses up its address's.
    Callers are asked here only after their credentials have turned out to be bad.
    """

    def __init__(self, limit: str | None) -> None:
        self._by_key = RateLimiter("Failed authentications", limit)
        self._by_address = RateLimiter("Failed authentications", limit)

    async def count(self, key: str, address: str) -> None:
        """Count one failure, and log it.

        Raises:
            TooManyRequests: there were too many of them lately.
        """
        network = network_of(address)
        guesser = f"{network} {key[:PREFIX_CHARACTERS]}"
        try:
            if await self._by_key.is_unused(guesser):
                await self._by_address.hit(network)
            await self._by_key.hit(guesser)
        except TooManyRequests:
            log.warning("authentication-failed", address=address, reason="invalid credentials, again and again")
            raise
        log.warning("authentication-failed", address=address, reason="invalid credentials")


def network_of(address: str) -> str:
    """What failures of an address are counted under: the address, of IPv6 its network."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), IPV6_NETWORK_BITS), strict=False))
