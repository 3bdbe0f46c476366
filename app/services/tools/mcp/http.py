"""The HTTP client for MCP servers, with bounded responses."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2

HTTP_SECONDS = 30.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
EVENT_STREAM = "text/event-stream"
EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")
LONGEST_END = 4


class BoundedStream(httpx2.AsyncByteStream):
    """The body of a response; reading fails once the body, or one event of an event stream, exceeds the bound."""

    def __init__(self, stream: httpx2.AsyncByteStream, *, has_events: bool) -> None:
        self._stream, self._has_events = stream, has_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body.

        Raises:
            httpx2.ReadError: the body is too large.
        """
        size_bytes, tail = 0, b""
        async for part in self._stream:
            size_bytes += len(part)
            if self._has_events:
                seen = tail + part
                end = max(found + len(item) if (found := seen.rfind(item)) >= 0 else 0 for item in EVENT_ENDS)
                if end:
                    size_bytes = len(seen) - end
                tail = seen[-LONGEST_END + 1 :]
            if size_bytes > MAX_MESSAGE_BYTES:
                raise httpx2.ReadError(f"The MCP server sent a message of more than {MAX_MESSAGE_BYTES} bytes.")
            yield part

    async def aclose(self) -> None:
        """Close the connection behind the body."""
        await self._stream.aclose()


async def bound(response: httpx2.Response) -> None:
    """Bound a response before its body is read.

    Raises:
        httpx2.DecodingError: the response is compressed although not requested: it could expand a thousandfold.
    """
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        await response.aclose()
        raise httpx2.DecodingError("The MCP server compressed its answer although this was not requested.")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        response.stream = BoundedStream(response.stream, has_events=kind == EVENT_STREAM)


def bounded_client(
    headers: dict[str, Any] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    """Return a client with bounded responses, with the signature that the SDK requires."""
    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity", **(headers or {})},
        timeout=timeout or httpx2.Timeout(HTTP_SECONDS, read=None),
        auth=auth,
        event_hooks={"response": [bound]},
    )
