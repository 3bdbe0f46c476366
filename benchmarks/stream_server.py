"""A model server that streams an answer of `CHUNKS` words, each in a packet of its own.

Run as `python -m benchmarks.stream_server` with `PORT` set.
"""

import asyncio
import os
from typing import Any

import orjson
import uvloop

CHUNKS = 1000
GAP_SECONDS = 0.002
"""The pause between two chunks: the caller reads each on its own."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 10}

Json = dict[str, Any]


def part(event: bytes) -> bytes:
    """An event as a part of a chunked body."""
    line = b"data: " + event + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def chunk(*choices: Json, **fields: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """A part with a chunk of a chat completion."""
    head = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "benchmark",
    }
    return part(orjson.dumps({**head, "choices": choices, **fields}))


def choice(delta: Json, finish_reason: str | None = None) -> Json:
    """The choice of a chunk."""
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


PARTS = [
    chunk(choice({"role": "assistant", "content": ""})),
    *(chunk(choice({"content": f"word{number} "})) for number in range(CHUNKS)),
    chunk(choice({}, "stop")),
    chunk(usage=USAGE),
    part(b"[DONE]"),
    b"0\r\n\r\n",
]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stream the answer once for each request of a connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            writer.write(HEAD)
            for piece in PARTS:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(GAP_SECONDS)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(os.environ["PORT"])))
