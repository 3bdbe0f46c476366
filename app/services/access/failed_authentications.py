"""Counts of failed authentications, which slow down guessing without locking out valid credentials."""

import ipaddress

import structlog

from app.services.usage.rate_limits import RateLimiter, TooManyRequests

PREFIX_CHARACTERS = 8
IPV6_NETWORK_BITS = 64
"""The network that a provider assigns to one customer, who can change addresses within it at will."""

log = structlog.get_logger(__name__)


class FailedAuthentications:
    """Counts failures by address and key prefix, and per address the prefixes that failed.

    A client that repeats one invalid key exhausts the count of that key only; a client that tries many keys exhausts
    the count of its address. Valid credentials are never counted.
    """

    def __init__(self, limit: str | None) -> None:
        self._by_key = RateLimiter("Failed authentications", limit)
        self._by_address = RateLimiter("Failed authentications", limit)

    async def count(self, key: str, address: str) -> None:
        """Count and log a failure.

        Raises:
            TooManyRequests: there were too many failures recently.
        """
        network = network_of(address)
        guesser = f"{network} {key[:PREFIX_CHARACTERS]}"
        try:
            if await self._by_key.is_unused(guesser):
                await self._by_address.hit(network)
            await self._by_key.hit(guesser)
        except TooManyRequests:
            log.warning("authentication-failed", address=address, reason="too many invalid credentials")
            raise
        log.warning("authentication-failed", address=address, reason="invalid credentials")


def network_of(address: str) -> str:
    """Return the key that counts the failures of an address: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), IPV6_NETWORK_BITS), strict=False))
