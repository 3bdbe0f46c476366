"""A model server that answers at once: a tool call to the first request of a conversation, then a text.

A bare asyncio protocol, so that the measured side of a call is the caller's. `GET /` gives the last request of each
kind, so that others can send the very same ones. Run as `python -m benchmarks.model_server` with `PORT` set.
"""

import asyncio
import os
from typing import Any, cast

import orjson
import uvloop

TOOL_NAME = "wordCount"
TOOL_INPUT = {"text": "The lighthouse has been dark for eleven years. Tonight, someone has lit it."}
ANSWER = "The text has thirteen words, and the light is on again."
HEADER_END = b"\r\n\r\n"
LENGTH_HEADER = b"content-length:"

Json = dict[str, Any]


def completion(message: Json, finish_reason: str) -> bytes:
    """A whole HTTP response with a chat completion."""
    return response(
        {
            "id": "chatcmpl-benchmark",
            "object": "chat.completion",
            "created": 1_767_225_600,
            "model": "benchmark",
            "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 420, "completion_tokens": 30, "total_tokens": 450},
        }
    )


def response(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """An HTTP response with a JSON body."""
    body = orjson.dumps(content)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


TOOL_CALL = {"name": TOOL_NAME, "arguments": orjson.dumps(TOOL_INPUT).decode()}
FIRST = completion(
    {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": TOOL_CALL}]}, "tool_calls"
)
SECOND = completion({"content": ANSWER}, "stop")


class ModelProtocol(asyncio.Protocol):
    """One connection, kept alive; `requests` is shared by all and holds the last first and the last second request."""

    def __init__(self, requests: list[Json]) -> None:
        self._requests = requests
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(HEADER_END)) >= 0:
            size = end + len(HEADER_END) + content_length(bytes(self._buffer[:end]))
            if len(self._buffer) < size:
                return
            body = bytes(self._buffer[end + len(HEADER_END) : size])
            del self._buffer[:size]
            assert self._transport is not None
            self._transport.write(self._answer(body))

    def _answer(self, body: bytes) -> bytes:
        if not body:
            return response(self._requests)
        request: Json = orjson.loads(body)
        is_second = request["messages"][-1]["role"] == "tool"
        self._requests[is_second] = request
        return SECOND if is_second else FIRST


def content_length(headers: bytes) -> int:
    """The length of the body that follows."""
    lines = (line for line in headers.lower().split(b"\r\n") if line.startswith(LENGTH_HEADER))
    return int(next(lines, b":0").partition(b":")[2])


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    requests: list[Json] = [{}, {}]
    server = await asyncio.get_running_loop().create_server(lambda: ModelProtocol(requests), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(os.environ["PORT"])))
