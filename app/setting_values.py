"""Values of settings: their types, and the checks that refuse invalid ones."""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated

from limits import parse_many
from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, SecretStr
from pydantic_settings import NoDecode
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

MIN_KEY_CHARACTERS = 16
MAX_KEY_CHARACTERS = 512
MIN_SECRET_BYTES = 32
MAX_SECONDS = 31 * 24 * 3600
MAX_WINDOW_SECONDS = 10 * 366 * 24 * 3600
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?/?")
HOST_NAME = r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
HOST_VALUE = re.compile(rf"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>{HOST_NAME})\.?)(?::(?P<port>[0-9]{{1,5}}))?")
MAX_HOST_CHARACTERS = 300
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_rate_limit(value: str) -> str:
    """Check one or several limits in the syntax of the `limits` library, none of which may refuse everything."""
    try:
        limits = parse_many(value)
    except ValueError:
        limits = []
    if not limits or not all(one.amount > 0 and one.get_expiry() <= MAX_WINDOW_SECONDS for one in limits):
        raise ValueError("must be a rate limit such as 600/minute, or several such as 20/second;600/minute")
    return value


def is_redis_url(value: SecretStr) -> SecretStr:
    """Check that the Redis client accepts an address with all its options."""
    try:
        ConnectionPool.from_url(value.get_secret_value()).make_connection()
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            "must be a Redis address such as redis://HOST:6379/0, or one with rediss:// or unix://"
        ) from None
    return value


def is_token_secret(value: SecretStr) -> SecretStr:
    """Check that a secret is too long to be guessed from a token."""
    if len(value.get_secret_value().encode("utf-8", "replace")) < MIN_SECRET_BYTES:
        raise ValueError(f"must be {MIN_SECRET_BYTES} bytes or more")
    return value


def is_http_address(value: str) -> str:
    """Check the address of an HTTP server."""
    try:
        HttpUrl(value)
    except ValueError:
        raise ValueError("must be an address that begins with https:// or http://") from None
    return value


def is_key_set_address(value: str) -> str:
    """Check that responses of an address cannot be forged in transit: `https`, or `http` on this machine."""
    try:
        url = HttpUrl(value)
    except ValueError:
        raise ValueError("must be an address that begins with https://") from None
    if url.scheme != "https" and not is_loopback(url.host or ""):
        raise ValueError("must begin with https://; http:// is accepted for this machine only (localhost, 127.0.0.1)")
    return value


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine on any network."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_proxy_address(value: str) -> str:
    """Check an address or a network that does not contain every address."""
    try:
        network = ip_network(value)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.7 or 10.0.0.0/8, separated by commas") from None
    if network.prefixlen == 0:
        raise ValueError("must not contain every address: anyone could forge the address of a request")
    return value


def as_browsers_send_it(value: str) -> str:
    """An origin in the form of the `Origin` header: in lower case, without a slash at its end or the usual port."""
    found = ORIGIN.fullmatch(value.lower())
    if found is None:
        raise ValueError("must be origins such as https://studio.example or http://localhost:3000, separated by commas")
    scheme, host, port = found.groups("")
    return f"{scheme}://{host}{'' if port == DEFAULT_PORTS.get(scheme) else port}"


@dataclass(frozen=True)
class Host:
    """A value of the `Host` header, or a pattern for it: a name or an address, for one port or for all ports.

    In settings, `*.studio.example` matches every name below `studio.example`.
    """

    name: str
    port: str | None = None

    @property
    def is_address(self) -> bool:
        """Whether it is an IP address."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True

    def covers(self, other: "Host") -> bool:
        """Return whether this pattern matches the host of a request."""
        if self.port not in (None, other.port):
            return False
        if self.name.startswith("*."):
            return other.name.endswith(self.name[1:])
        return self.name == other.name


def parse_host(text: str) -> Host | None:
    """Return the host in a text such as `studio.example:8000` or `[::1]`; `None` if the text is invalid."""
    found = HOST_VALUE.fullmatch(text.lower()) if len(text) <= MAX_HOST_CHARACTERS else None
    if found is None:
        return None
    if found["ipv6"] is None:
        return Host(found["name"], found["port"])
    try:
        return Host(str(ip_address(found["ipv6"])), found["port"])
    except ValueError:
        return None


def is_host(value: str) -> str:
    """Check a host in the form of the `Host` header. Returns it in lower case."""
    if parse_host(value) is None:
        raise ValueError(
            "must be hosts such as agents.example, agents.example:8000, *.agents.example or [::1], separated by commas"
        )
    return value.lower()


def pairs_of(value: object) -> object:
    """`a=b, c=d` as a mapping of `a` to `b` and of `c` to `d`."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, value.split(","))):
        name, equals, given = (part.strip() for part in pair.partition("="))
        if not (name and equals and given):
            raise ValueError("must be pairs such as judge=anthropic/claude-3-haiku, separated by commas")
        if name in found:
            raise ValueError(f"must name {name} once")
        found[name] = given
    return found


def is_field_name(value: str) -> str:
    """Check that a text names a top-level field of a document."""
    if not FIELD_NAME.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not the name of a field: letters, digits, '_', a letter first")
    return value


RateLimit = Annotated[str, AfterValidator(is_rate_limit)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(pairs_of)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]
ProxyAddresses = Annotated[tuple[Annotated[str, AfterValidator(is_proxy_address)], ...], NoDecode]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(is_host)], ...], NoDecode]
FieldNames = Annotated[tuple[Annotated[str, AfterValidator(is_field_name)], ...], NoDecode]
Origins = Annotated[tuple[Annotated[str, AfterValidator(as_browsers_send_it)], ...], NoDecode]


def is_bootstrap_key(value: SecretStr) -> SecretStr:
    """Check that a key fits into a header and is too long to be guessed."""
    key = value.get_secret_value()
    has_length = MIN_KEY_CHARACTERS <= len(key) <= MAX_KEY_CHARACTERS
    if not (has_length and key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError(
            f"must be {MIN_KEY_CHARACTERS} to {MAX_KEY_CHARACTERS} printable ASCII characters, with no space before "
            "or behind them"
        )
    return value
