"""LiteLLM's HTTP handler, taking whole answers from its connections without httpx in between.

LiteLLM sends with httpx, which sends with aiohttp, and each prepares and reads every request: a sixth of what a call
costs. Streams, and calls whose timing somebody records, go LiteLLM's own way. So does, once more, a request whose
connection turned out to be closed, or that is sent elsewhere.
"""

from functools import cached_property, lru_cache
from typing import Any

import httpx
from aiohttp import ClientTimeout

from app.services.llm.litellm_setup import (
    AiohttpTransport,
    HttpHandler,
    http_handlers,
    is_internal_call,
    litellm,
    map_aiohttp_exceptions,
    raise_masked,
)

SENT_AGAIN = (httpx.ConnectError, httpx.RemoteProtocolError)
"""What LiteLLM takes for a stale connection: it sends such a request again on a new one."""

CONNECT_SECONDS = 10.0


class PlainHttpHandler(HttpHandler):
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
        """
        bounds = bounds_of(options.get("timeout") or self.timeout)
        options["timeout"] = bounds
        transport = self.client._transport  # noqa: SLF001 - LiteLLM's connections; there is no other way to them
        wanted = {name for name, value in options.items() if value} - {"headers", "timeout", "logging_obj"}
        is_plain = isinstance(data, str) and not wanted and isinstance(transport, AiohttpTransport)
        if not (is_plain and is_internal_call.get()):
            return await super().post(url, data, **options)
        headers = {**self.own_headers, **(options.get("headers") or {})}
        try:
            answer = await fetch(transport, url, data.encode(), headers, bounds)
        except SENT_AGAIN:
            return await super().post(url, data, **options)
        except httpx.TimeoutException:
            raise litellm.Timeout("Connection timed out.", model="", llm_provider="") from None
        if answer.is_redirect:
            return await super().post(url, data, **options)
        if answer.is_error:
            await raise_masked(httpx.HTTPStatusError("refused", request=answer.request, response=answer), stream=False)
        return answer


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
            return httpx.Response(
                answer.status, headers=answer.raw_headers, content=await answer.read(), request=request
            )


@lru_cache(maxsize=256)
def request_to(url: str) -> httpx.Request:
    """A request as answers and errors show it: where it went, and nothing of what it said."""
    return httpx.Request("POST", url)


def answer_plainly() -> None:
    """Have LiteLLM make such handlers from now on."""
    http_handlers.AsyncHTTPHandler = PlainHttpHandler
