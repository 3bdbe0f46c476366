"""LiteLLM's HTTP handler, taking whole answers from its connections without httpx in between.

LiteLLM sends with httpx, which sends with aiohttp, and each prepares and reads every request: a sixth of what a call
costs. Streams, and calls whose timing somebody records, go LiteLLM's own way. So does, once more, a request whose
connection turned out to be closed, or that is sent elsewhere.
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

SENT_AGAIN = (httpx.ConnectError, httpx.RemoteProtocolError)
"""What LiteLLM takes for a stale connection: it sends such a request again on a new one."""

CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 16_000_000
MAX_STREAM_BYTES = 64_000_000
"""A stream wraps each word in some 250 bytes."""
PIECE_BYTES = 16_384
"""What is unpacked at a time: a server's packed zeros become a thousand times as many."""


class DirectHttpHandler(HttpHandler):
    """Posts JSON texts and gives whole answers, in LiteLLM's forms."""

    @cached_property
    def own_headers(self) -> dict[str, str]:
        """What every request says, beside what it says itself."""
        return dict(self.client.headers)

    async def post(self, url: str, data: Any = None, **options: Any) -> httpx.Response:  # noqa: ANN401 - LiteLLM's own
        """One request and its answer.

        Raises:
            httpx.HTTPStatusError: the server refused; keys in its text are masked.
            httpx.TransportError: there is no answer.
            litellm.Timeout: it did not come in time.
            ModelAnswerTooLong: it went beyond `MAX_BODY_BYTES`.
        """
        bounds = bounds_of(options.get("timeout") or self.timeout)
        options["timeout"] = bounds
        transport = self.client._transport  # noqa: SLF001 - LiteLLM's connections; there is no other way to them
        wanted = {name for name, value in options.items() if value} - {"headers", "timeout", "logging_obj"}
        is_plain = isinstance(data, str) and not wanted and isinstance(transport, AiohttpTransport)
        if not (is_plain and is_internal_call.get()):
            answer = await super().post(url, data, **options)
            return answer if options.get("stream") else with_text_content(answer)
        headers = {**self.own_headers, **(options.get("headers") or {})}
        try:
            answer = await fetch(transport, url, data.encode(), headers, bounds)
        except SENT_AGAIN:
            return with_text_content(await super().post(url, data, **options))
        except httpx.TimeoutException:
            raise litellm.Timeout("Connection timed out.", model="", llm_provider="") from None
        if answer.is_redirect:
            return with_text_content(await super().post(url, data, **options))
        if answer.is_error:
            await raise_masked(httpx.HTTPStatusError("refused", request=answer.request, response=answer), stream=False)
        return with_text_content(answer)


def bounds_of(timeout: float | httpx.Timeout) -> httpx.Timeout:
    """LiteLLM gives as long to connect as to answer; an address that never connects is told sooner."""
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
    """Post over LiteLLM's connections, by the proxy and the certificates that it was told of."""
    request = request_to(url)
    verify = transport._ssl_verify  # noqa: SLF001 - as LiteLLM's transport does
    options = {} if verify is None else {"ssl": verify}
    with map_aiohttp_exceptions():
        async with transport.get_valid_client_session().post(
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            auto_decompress=False,  # httpx does so
            timeout=ClientTimeout(sock_connect=bounds.connect, sock_read=bounds.read, connect=bounds.pool),
            proxy=await transport._get_proxy_settings(request),  # noqa: SLF001 - as LiteLLM's transport does
            **options,
        ) as answer:
            body = b"".join([part async for part in bounded(answer.content.iter_any(), MAX_BODY_BYTES)])
            if "Content-Encoding" in answer.headers:
                return unpacked(answer, body, request)
            return httpx.Response(answer.status, headers=answer.raw_headers, content=body, request=request)


async def bounded(parts: AsyncIterable[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The parts of a body.

    Raises:
        ModelAnswerTooLong: they came to more than this.
    """
    size = 0
    async for part in parts:
        size += len(part)
        if size > max_bytes:
            raise ModelAnswerTooLong(f"{max_bytes} bytes")
        yield part


def unpacked(answer: ClientResponse, body: bytes, request: httpx.Request) -> httpx.Response:
    """An answer whose body was sent packed, unpacked no further than `MAX_BODY_BYTES`."""
    pieces = (body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES))
    packed = httpx.Response(answer.status, headers=answer.raw_headers, content=pieces, request=request)
    whole = bytearray()
    for part in packed.iter_bytes():
        whole += part
        if len(whole) > MAX_BODY_BYTES:
            raise ModelAnswerTooLong(f"{MAX_BODY_BYTES} bytes")
    headers = [header for header in answer.raw_headers if header[0].lower() != b"content-encoding"]
    return httpx.Response(answer.status, headers=headers, content=bytes(whole), request=request)


@lru_cache(maxsize=256)
def request_to(url: str) -> httpx.Request:
    """A request as answers and errors show it: where it went, and nothing of what it said."""
    return httpx.Request("POST", url)


class BoundedBody(aiohttp_transport.AiohttpResponseStream):
    """The body of an answer that LiteLLM reads itself; a stream's may be longer than that of a whole answer."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        covers_tree = self._aiohttp_response.content_type == "application/json"
        async with aclosing(super().__aiter__()) as parts:
            async for part in bounded(parts, MAX_BODY_BYTES if covers_tree else MAX_STREAM_BYTES):
                yield part


def answer_plainly() -> None:
    """Have LiteLLM make such handlers, and read no more than it should, from now on."""
    http_handlers.AsyncHTTPHandler = DirectHttpHandler
    aiohttp_transport.AiohttpResponseStream = BoundedBody
