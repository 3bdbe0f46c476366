"""LiteLLM's HTTP handler, with bounded answers and without httpx around requests that are not streamed.

LiteLLM sends with httpx over aiohttp, and both build and parse every request. Streams, and calls whose timing LiteLLM
records, use LiteLLM's own code. So does the second attempt after a stale connection or a redirect. The text events of
a stream are merged before LiteLLM parses them.
"""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from functools import cached_property, lru_cache
from typing import Any

import httpx
from aiohttp import ClientResponse, ClientTimeout

from app.services.llm.failures.errors import ModelAnswerTooLong
from app.services.llm.litellm_patches.setup import (
    AiohttpTransport,
    HttpHandler,
    aiohttp_transport,
    http_handlers,
    is_internal_call,
    litellm,
    map_aiohttp_exceptions,
    raise_masked,
)
from app.services.llm.messages.parts import with_text_content
from app.services.llm.messages.text_events import LiveText, TextEventMerger, live_text

STALE_CONNECTION_ERRORS = (httpx.ConnectError, httpx.RemoteProtocolError)
"""Errors after which LiteLLM sends a request again, on a new connection."""

CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 16_000_000
MAX_STREAM_BYTES = 64_000_000
"""Larger, because a stream wraps each word in about 250 bytes."""
EVENT_STREAM = "text/event-stream"
PIECE_BYTES = 16_384
"""The bytes that are decompressed at a time: compressed zeros grow a thousandfold."""


class DirectHttpHandler(HttpHandler):
    """Posts JSON texts and returns complete answers, with LiteLLM's types and errors."""

    @cached_property
    def own_headers(self) -> dict[str, str]:
        """The headers that the client adds to every request."""
        return dict(self.client.headers)

    async def post(self, url: str, data: Any = None, **options: Any) -> httpx.Response:  # noqa: ANN401 - LiteLLM's own
        """Send a request and return its answer.

        Raises:
            httpx.HTTPStatusError: the server refused the request; keys in its text are masked.
            httpx.TransportError: the connection failed.
            litellm.Timeout: the answer did not arrive in time.
            ModelAnswerTooLong: the answer exceeds `MAX_BODY_BYTES`.
        """
        bounds = bounded_timeout(options.get("timeout") or self.timeout)
        options["timeout"] = bounds
        transport = self.client._transport  # noqa: SLF001 - httpx has no public way to its transport
        others = {name for name, value in options.items() if value} - {"headers", "timeout", "logging_obj"}
        is_direct = isinstance(data, str) and not others and isinstance(transport, AiohttpTransport)
        if not (is_direct and is_internal_call.get()):
            answer = await super().post(url, data, **options)
            return answer if options.get("stream") else with_text_content(answer)
        headers = {**self.own_headers, **(options.get("headers") or {})}
        try:
            answer = await fetch(transport, url, data.encode(), headers, bounds)
        except STALE_CONNECTION_ERRORS:
            return with_text_content(await super().post(url, data, **options))
        except httpx.TimeoutException:
            raise litellm.Timeout("Connection timed out.", model="", llm_provider="") from None
        if answer.is_redirect:
            return with_text_content(await super().post(url, data, **options))
        if answer.is_error:
            await raise_masked(httpx.HTTPStatusError("refused", request=answer.request, response=answer), stream=False)
        return with_text_content(answer)


def bounded_timeout(timeout: float | httpx.Timeout) -> httpx.Timeout:
    """Return a timeout with at most `CONNECT_SECONDS` to connect; LiteLLM allows as long to connect as to answer."""
    bounds = httpx.Timeout(timeout)
    connect = CONNECT_SECONDS if bounds.connect is None else min(bounds.connect, CONNECT_SECONDS)
    return httpx.Timeout(connect=connect, read=bounds.read, write=bounds.write, pool=bounds.pool)


async def fetch(
    transport: Any,  # noqa: ANN401 - LiteLLM's
    url: str,
    body: bytes,
    headers: dict[str, str],
    bounds: httpx.Timeout,
) -> httpx.Response:
    """Post over LiteLLM's connections, with the proxy and certificates that LiteLLM is configured with."""
    request = request_to(url)
    verify = transport._ssl_verify  # noqa: SLF001 - as LiteLLM's transport does
    options = {} if verify is None else {"ssl": verify}
    with map_aiohttp_exceptions():
        async with transport.get_valid_client_session().post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            auto_decompress=False,  # done below, within bounds
            timeout=ClientTimeout(sock_connect=bounds.connect, sock_read=bounds.read, connect=bounds.pool),
            proxy=await transport._get_proxy_settings(request),  # noqa: SLF001 - as LiteLLM's transport does
            **options,
        ) as answer:
            body = b"".join([part async for part in bounded(answer.content.iter_any(), MAX_BODY_BYTES)])
            if "Content-Encoding" in answer.headers:
                return decompressed(answer, body, request)
            return httpx.Response(answer.status, headers=answer.raw_headers, content=body, request=request)


async def bounded(parts: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the parts of a body.

    Raises:
        ModelAnswerTooLong: the body exceeds `max_bytes`.
    """
    size = 0
    async for part in parts:
        size += len(part)
        if size > max_bytes:
            raise ModelAnswerTooLong(f"{max_bytes} bytes")
        yield part


def decompressed(answer: ClientResponse, body: bytes, request: httpx.Request) -> httpx.Response:
    """Return an answer with its compressed body decompressed.

    Raises:
        ModelAnswerTooLong: the decompressed body exceeds `MAX_BODY_BYTES`.
    """
    pieces = (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))
    packed = httpx.Response(answer.status, headers=answer.raw_headers, content=pieces, request=request)
    content = bytearray()
    for part in packed.iter_bytes():
        content += part
        if len(content) > MAX_BODY_BYTES:
            raise ModelAnswerTooLong(f"{MAX_BODY_BYTES} bytes")
    headers = [header for header in answer.raw_headers if header[0].lower() != b"content-encoding"]
    return httpx.Response(answer.status, headers=headers, content=bytes(content), request=request)


@lru_cache(maxsize=256)
def request_to(url: str) -> httpx.Request:
    """Return a request for answers and errors to refer to: its address, without headers and body."""
    return httpx.Request("POST", url)


class BoundedBody(aiohttp_transport.AiohttpResponseStream):
    """The bounded body of an answer that LiteLLM reads itself."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        response, live = self._aiohttp_response, live_text.get()
        is_stream = response.content_type != "application/json"
        async with aclosing(super().__aiter__()) as parts:
            body = bounded(parts, MAX_STREAM_BYTES if is_stream else MAX_BODY_BYTES)
            if live and response.content_type == EVENT_STREAM and "Content-Encoding" not in response.headers:
                body = merged(body, live)
            async for part in body:
                yield part


async def merged(parts: AsyncIterable[bytes], live: LiveText) -> AsyncIterator[bytes]:
    """Yield the parts of an event stream with its text events merged."""
    merger = TextEventMerger(live.show_ahead)
    async for part in parts:
        for ready in merger.feed(part):
            yield ready
    if ready := merger.end():
        yield ready


def patch_http() -> None:
    """Install the handler and the bounds; installing them again changes nothing."""
    http_handlers.AsyncHTTPHandler = DirectHttpHandler
    aiohttp_transport.AiohttpResponseStream = BoundedBody
