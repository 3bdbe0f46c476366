"""The check of the `Host` header, which protects against DNS rebinding."""

from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import AppError
from app.routers.http.problems import render_app_error
from app.setting_values import Host, parse_host

PROBES = ("/healthz", "/readyz", "/metrics")


class MisdirectedRequest(AppError):
    """The `Host` header names another host."""

    code = "misdirected-request"
    status = HTTPStatus.MISDIRECTED_REQUEST

    def __init__(self, host: str) -> None:
        shown = host.encode("ascii", "replace").decode()[:100]
        super().__init__(
            f"The service does not answer for the host {shown!r}. Add it to ALLOWED_HOSTS, or use a host listed there."
        )


class HostCheck:
    """ASGI middleware that refuses requests and sockets for unknown hosts."""

    def __init__(self, app: ASGIApp, allowed: tuple[Host, ...]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, one socket or the lifespan."""
        if scope["type"] in ("http", "websocket"):
            hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            foreign = next((host for host in hosts if not self._answers(host, scope)), None)
            if foreign is not None:
                answer = await render_app_error(HTTPConnection(scope), MisdirectedRequest(foreign))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _answers(self, text: str, scope: Scope) -> bool:
        """Return whether the service answers for a `Host` value.

        Unlike a name, an address cannot be pointed elsewhere. The address of the connection itself is always allowed,
        and probes may use any address.
        """
        host = parse_host(text)
        if host is None:
            return False
        if any(pattern.covers(host) for pattern in self._allowed):
            return True
        server = scope.get("server")
        return host.is_address and (scope["path"] in PROBES or (server is not None and is_same(host.name, server[0])))


def is_same(address: str, other: str) -> bool:
    """Return whether two texts are the same address. An IPv4 address may be in its IPv6 form."""
    try:
        first, second = (ip_address(text.partition("%")[0]) for text in (address, other))
    except ValueError:
        return False
    return unmapped(first) == unmapped(second)


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address inside a mapped IPv6 address, else the address itself."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
