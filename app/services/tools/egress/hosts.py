"""Targets of tools' requests, and the hosts and addresses that are allowed."""

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.errors import StartupError

MAX_URL_CHARACTERS = 8 * 1024
PORTS = {"http": 80, "https": 443}
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
LOOKS_NUMERIC = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f\\]")
# Addresses that embed other addresses: 6to4, Teredo, and the two prefixes of NAT64.
TRANSLATED = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48")))
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's platform address, which serves metadata and credentials to its machines
            "192.0.0.192/32",  # Oracle Cloud's metadata service in its earlier form
            "192.88.99.0/24",  # anycast relays of 6to4, which lead to the networks behind them
            "3fff::/20",  # documentation; Python 3.11 considers it global
        ),
    )
)
"""Addresses that `ipaddress` considers global, but that lead to a cloud's own services or nowhere."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class EgressRefused(Exception):
    """The request is not allowed or failed; the tool's `fetch` is rejected with this code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def denied(message: str) -> EgressRefused:
    """Return the error for a request that is not allowed."""
    return EgressRefused("egress-denied", message)


def failed(message: str) -> EgressRefused:
    """Return the error for an allowed request that failed."""
    return EgressRefused("egress-failed", message)


@dataclass(frozen=True)
class Target:
    """The target of a request: the host as a name in lower case, or as an address in its usual form."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Return the target that a URL names.

        Raises:
            EgressRefused: the URL is not a plain HTTP URL, or its host has an ambiguous spelling.
        """
        if len(url) > MAX_URL_CHARACTERS or not url.isascii() or NOT_IN_A_URL.search(url):
            raise denied("The URL must be plain ASCII without spaces or backslashes, and of reasonable length.")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise denied("The URL is malformed.") from None
        if parts.scheme not in PORTS:
            raise denied("Only http and https URLs can be fetched.")
        if "@" in parts.netloc:
            raise denied("A URL must not carry a user name or password.")
        host = canonical_host(parts.hostname or "")
        return cls(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path_of(parts))

    @property
    def url(self) -> str:
        """The URL, without its fragment."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port as in a URL and the `Host` header."""
        return bracketed(self.host) + ("" if self.port == PORTS[self.scheme] else f":{self.port}")

    @property
    def origin(self) -> tuple[str, str, int]:
        """The origin that credentials are bound to."""
        return self.scheme, self.host, self.port


def path_of(parts: SplitResult) -> str:
    """Return the request's target: path and query."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def bracketed(host: str) -> str:
    """Return the host as in a URL."""
    return f"[{host}]" if ":" in host else host


def canonical_host(host: str) -> str:
    """Return a host name in lower case without a final dot, or an address in its canonical form.

    Raises:
        EgressRefused: a number in octal, hexadecimal or fewer parts, an address with a zone, or no host name at all.
    """
    host = host.lower().removesuffix(".")
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if getattr(address, "scope_id", None) is None:
            return str(address)
    if not HOST_NAME.fullmatch(host) or LOOKS_NUMERIC.fullmatch(host):
        raise denied("The URL's host is neither a host name nor an address in its usual form.")
    return host


def plain_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address embeds, otherwise the address itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Return whether an address is public: not local or private, not multicast, and not embedded in another."""
    address = plain_address(address)
    if isinstance(address, ipaddress.IPv6Address) and (
        address.is_site_local or any(address in network for network in TRANSLATED)
    ):
        return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True)
class AllowList:
    """The hosts that tools may fetch as `(host, port)`; the port is `None` for any port."""

    entries: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "AllowList":
        """Parse entries such as `host` and `host:port`.

        Raises:
            StartupError: an entry is neither.
        """
        return cls(frozenset(map(parse_entry, entries)))

    def check(self, target: Target) -> None:
        """Refuse a target that is not listed.

        Raises:
            EgressRefused: the target is not listed.
        """
        if not self.entries & {(target.host, None), (target.host, target.port)}:
            raise denied(f"The host {target.host!r} is not one that tools may fetch (TOOL_EGRESS_ALLOWLIST).")

    def permits(self, address: Address, host: str, port: int) -> bool:
        """Return whether a connection for a listed host may go to this address.

        A listed name opens public addresses only: an address of this machine or its networks must be listed itself, or
        be the loopback of the listed name `localhost`.
        """
        plain = plain_address(address)
        if is_public(plain) or (host == "localhost" and plain.is_loopback):
            return True
        return bool(self.entries & {(str(plain), None), (str(plain), port), (str(address), None), (str(address), port)})


def parse_entry(entry: str) -> tuple[str, int | None]:
    """Return an entry of the list; IPv6 addresses need brackets before a port."""
    try:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(entry.strip("[]"))), None
        parts = urlsplit(f"//{entry}")
        if entry != parts.netloc or "@" in entry or not parts.hostname:
            raise ValueError(entry)
        return canonical_host(parts.hostname), parts.port
    except (ValueError, EgressRefused):
        message = (
            f"TOOL_EGRESS_ALLOWLIST is invalid: {entry!r} is neither a host name nor an address, with or without :port."
        )
        raise StartupError(message) from None
