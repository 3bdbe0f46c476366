"""The guard of tools' network requests: listed hosts only, over connections to addresses that were checked.

A host name is resolved once per connection, and the connection goes to the checked address: it does not matter what the
name resolves to later. Nothing is shared between requests: no cookies, no proxies, no connections.
"""

import asyncio
import base64
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from urllib.parse import urljoin

import certifi
import httpcore

from app.services.tools.egress.hosts import Address, AllowList, EgressRefused, Target, bracketed, denied, failed
from app.services.tools.sandbox.protocol import MAX_SENT_BYTES

MAX_REDIRECTS = 5
MAX_HEADERS = 50
MAX_HEADER_CHARACTERS = 16 * 1024
MAX_RECEIVED_BYTES = 1024 * 1024
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Headers that belong to the connection, and headers that would impersonate another client.
OWN_HEADERS = frozenset(
    {
        *("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive"),
        *("expect", "accept-encoding", "cookie", "forwarded", "via"),
    }
)
OWN_PREFIXES = ("proxy-", "sec-", "x-forwarded-")
HARMLESS_HEADERS = frozenset(
    {"accept", "accept-language", "cache-control", "content-language", "content-type", "if-modified-since", "range"}
)
"""Headers that are kept on a redirect to another origin; any other header may hold a credential."""
# A compressed answer could expand a thousandfold.
FIXED_HEADERS = [("accept-encoding", "identity"), ("user-agent", "dynamic-agents"), ("connection", "close")]

Header = tuple[str, str]
Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host by the system's resolver."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise failed(f"The host {host!r} is unknown.") from None
    return [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


@dataclass(frozen=True)
class Request:
    """A tool's outgoing request."""

    method: str
    target: Target
    headers: list[Header]
    body: bytes
    redirect: str = "follow"

    @classmethod
    def of(cls, asked: dict[str, Any]) -> "Request":
        """Return the request of a tool.

        Raises:
            EgressRefused: the request is not allowed.
            LookupError, TypeError, ValueError: the message is malformed.
        """
        method = str(asked["method"])
        if method not in METHODS:
            raise denied(f"The method must be one of {', '.join(sorted(METHODS))}.")
        body = (
            base64.b64decode(asked["base64"], validate=True)
            if "base64" in asked
            else str(asked.get("text", "")).encode()
        )
        if len(body) > MAX_SENT_BYTES:
            raise denied(f"A request's body must not exceed {MAX_SENT_BYTES} bytes.")
        headers = [(str(name), str(value)) for name, value in asked["headers"]]
        check_headers(headers)
        return cls(method, Target.of(str(asked["url"])), headers, body, str(asked["redirect"]))

    def redirected(self, status: int, location: str) -> "Request":
        """Return the request that follows a redirect; only harmless headers go to another origin.

        Raises:
            EgressRefused: the redirect's URL cannot be fetched.
        """
        target = Target.of(urljoin(self.target.url, location).partition("#")[0])
        keeps_body = status in (307, 308) or self.method in ("GET", "HEAD")
        headers = self.headers
        if target.origin != self.target.origin:
            headers = [(name, value) for name, value in headers if name.lower() in HARMLESS_HEADERS]
        if not keeps_body:
            headers = [(name, value) for name, value in headers if not name.lower().startswith("content-")]
        method, body = (self.method, self.body) if keeps_body else ("GET", b"")
        return Request(method, target, headers, body, self.redirect)


def check_headers(headers: list[Header]) -> None:
    """Check that headers are valid, not too many, and not set by the service itself.

    Raises:
        EgressRefused: a header is not allowed.
    """
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_CHARACTERS:
        raise denied("The request has too many headers.")
    for name, value in headers:
        lower = name.lower()
        if not TOKEN.fullmatch(name) or CONTROL.search(value) or not value.isascii():
            raise denied(f"The header {name[:50]!r} is invalid.")
        if lower in OWN_HEADERS or lower.startswith(OWN_PREFIXES):
            raise denied(f"The header {name!r} cannot be set.")


@dataclass(frozen=True)
class Egress:
    """Performs the requests of tools that the list allows; an empty list allows none."""

    allowed: AllowList = field(default_factory=AllowList)
    resolve: Resolve = resolve

    @classmethod
    def to(cls, hosts: Iterable[str]) -> "Egress":
        """Return a guard that allows these hosts only.

        Raises:
            StartupError: a host is invalid.
        """
        return cls(AllowList.of(hosts))

    async def answer(self, asked: dict[str, Any], *, until: float) -> bytes:
        """Return the answer or error for the tool's worker, before a deadline on the event loop's clock."""
        identity = asked.get("id")
        try:
            async with asyncio.timeout_at(until):
                answer = await self._fetch(Request.of(asked))
        except EgressRefused as error:
            answer = {"error": {"code": error.code, "message": error.message}}
        except (TimeoutError, httpcore.TimeoutException):
            answer = {"error": {"code": "egress-failed", "message": "The server did not answer in time."}}
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            message = f"The request failed ({type(error).__name__})."
            answer = {"error": {"code": "egress-failed", "message": message}}
        except (LookupError, TypeError, ValueError):
            answer = {"error": {"code": "egress-failed", "message": "The request is malformed."}}
        return json.dumps({"id": identity, **answer}, ensure_ascii=False).encode()

    async def _fetch(self, request: Request) -> dict[str, Any]:
        for hops in range(MAX_REDIRECTS + 1):
            self.allowed.check(request.target)
            status, headers, answer = await self._exchange(request)
            location = dict(headers).get("location")
            if status not in REDIRECTS or location is None or request.redirect == "manual":
                return answer | {"redirected": hops > 0}
            if request.redirect != "follow":
                raise failed("The server redirects, and the request does not allow redirects.")
            request = request.redirected(status, location)
        raise failed(f"The server redirected more than {MAX_REDIRECTS} times.")

    async def _exchange(self, request: Request) -> tuple[int, list[Header], dict[str, Any]]:
        """Send one request and read its response over a new connection."""
        target = request.target
        backend = CheckedBackend(self.allowed, self.resolve)
        length = (
            [("content-length", str(len(request.body)))] if request.body or request.method in ("POST", "PUT") else []
        )
        headers = [("host", target.authority), *request.headers, *FIXED_HEADERS, *length]
        url = httpcore.URL(scheme=target.scheme, host=bracketed(target.host), port=target.port, target=target.path)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=trust(), network_backend=backend, retries=0) as pool,
            pool.stream(request.method, url, headers=headers, content=request.body) as response,
        ):
            received = readable_headers(response.headers)
            if dict(received).get("content-encoding", "identity") != "identity":
                raise failed("The server compressed its answer although this was not requested.")
            body = bytearray()
            async for part in response.aiter_stream():
                body += part
                if len(body) > MAX_RECEIVED_BYTES:
                    raise failed(f"The answer exceeds {MAX_RECEIVED_BYTES} bytes.")
        reason = response.extensions.get("reason_phrase", b"").decode("latin-1")
        facts = {"status": response.status, "statusText": reason, "url": target.url, "headers": received}
        return response.status, received, facts | told_body(bytes(body))


def readable_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[Header]:
    """Return a response's headers as text, names in lower case."""
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


def told_body(body: bytes) -> dict[str, str]:
    """Return a body as text if it is UTF-8, otherwise in base64."""
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


@cache
def trust() -> ssl.SSLContext:
    """Return the trusted certificate authorities: the system's (`SSL_CERT_FILE`) and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Opens connections to checked addresses only: resolving, checking and connecting are one step."""

    def __init__(self, allowed: AllowList, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._network = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the base class's own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to the host's first address that accepts; a single forbidden address refuses the host."""
        addresses = await self._addresses(host.strip("[]"), port)
        if not all(self._allowed.permits(address, host, port) for address in addresses):
            raise denied(f"The host {host!r} is at an address that tools may not reach.")
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        """Refuse the connection: tools cannot name such a target."""
        raise denied("Unix sockets cannot be fetched.")

    async def sleep(self, seconds: float) -> None:
        """Do nothing: there is only a single attempt."""
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            return await self._resolve(host, port)
