"""The address and scheme of requests that come through a trusted proxy."""

from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class TrustedProxies:
    """ASGI middleware: applies `X-Forwarded-For` and `X-Forwarded-Proto` from the listed addresses only."""

    def __init__(self, app: ASGIApp, trusted: tuple[str, ...]) -> None:
        self._app = app
        proxied = ProxyHeadersMiddleware(cast("object", app), list(trusted)) if trusted else app  # pyright: ignore[reportArgumentType]
        self._proxied = cast("ASGIApp", proxied)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, one socket or the lifespan."""
        await self._proxied(scope, receive, send)
