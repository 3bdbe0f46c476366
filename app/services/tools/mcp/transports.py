"""Clients of MCP servers for each transport: a started program, streamable HTTP, and the older SSE transport."""

import contextlib
from typing import IO, Any, Protocol, cast

import httpx2
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.auth import TokenStorage
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from app.services.tools.mcp.http import HTTP_SECONDS, bounded_client
from app.services.tools.mcp.settings import McpServerSettings

SSE_SILENCE_SECONDS = 3600.0


class OnMessage(Protocol):
    """Receives a server's notifications."""

    async def __call__(self, message: object) -> None: ...


class TokensInMemory(TokenStorage):
    """Keeps an access token for the duration of a connection."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Return the tokens that were stored last."""
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Store tokens."""
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the registration that was stored last."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Store a registration."""
        self._client = client_info


async def client_of(
    settings: McpServerSettings, errors: IO[str], on_message: OnMessage, stack: contextlib.AsyncExitStack
) -> Client:
    """Return an unconnected client for the configured transport; the stack closes its resources."""
    if settings.url is None:
        parameters = StdioServerParameters(
            command=settings.command or "", args=settings.args, env=settings.env, cwd=settings.cwd
        )
        return Client(stdio_client(parameters, cast("Any", errors)), message_handler=on_message)
    auth = auth_of(settings, settings.url)
    if settings.transport == "sse":
        transport = sse_client(
            settings.url,
            dict(settings.headers),
            timeout=HTTP_SECONDS,
            sse_read_timeout=SSE_SILENCE_SECONDS,
            httpx_client_factory=bounded_client,
            auth=auth,
        )
        # Servers with this transport predate the probe for a newer protocol.
        return Client(transport, mode="legacy", message_handler=on_message)
    http = await stack.enter_async_context(bounded_client(dict(settings.headers), auth=auth))
    return Client(streamable_http_client(settings.url, http_client=http), message_handler=on_message)


def auth_of(settings: McpServerSettings, url: str) -> httpx2.Auth | None:
    """Return the authentication of requests to a server that requires OAuth."""
    oauth = settings.oauth
    if oauth is None:
        return None
    return ClientCredentialsOAuthProvider(
        url,
        TokensInMemory(),
        oauth.client_id,
        oauth.client_secret.get_secret_value(),
        scope=oauth.scope,
        issuer=oauth.issuer,
    )
