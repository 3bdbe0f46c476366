"""The worker process that runs tools: `python -m app.services.tools.worker PARENT_PID TIMEOUT_SECONDS MEMORY_MB`.

It reads requests from stdin and answers on stdout, one at a time, until stdin closes or the service kills it. An error
that nobody expected ends it: the service sees that and starts another.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from typing import BinaryIO

from app.services.tools.confinement import claim_pipes, die_with_parent, limit_resources, silence_errors
from app.services.tools.engine import EngineLimits, Reply, failure, invoke
from app.services.tools.protocol import LENGTH, encode_request, frame

# The kernel ends a worker that the service should have killed long before: the service itself may hang.
ALARM_GRACE_SECONDS = 1.0
WARM_UP_SECONDS = 10.0


def main(parent_pid: int, timeout_seconds: float, memory_mb: int) -> None:
    """Warm up, give everything up, then serve."""
    die_with_parent(parent_pid)
    requests, replies = claim_pipes()
    os.chdir("/")
    memory_bytes = memory_mb * 1024 * 1024
    loop = asyncio.new_event_loop()
    warm_up(memory_bytes, loop)
    limits = EngineLimits(timeout_seconds, memory_bytes, limit_resources(memory_bytes))
    with os.fdopen(requests, "rb") as source, os.fdopen(replies, "wb", buffering=0) as sink:
        send(sink, {"ready": True})
        silence_errors()
        serve(source, sink, limits, loop)


def warm_up(memory_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
    """Compile the engine (half a second) and take the memory that every call needs."""
    request = encode_request({"code": "() => 1", "input": None, "context": {}, "checkOnly": False})
    reply = invoke(request.decode(), EngineLimits(WARM_UP_SECONDS, memory_bytes), loop)
    if reply.get("output") != "1":
        sys.exit(f"The JavaScript engine does not work here: {reply}")
    gc.collect()
    gc.freeze()


def serve(source: BinaryIO, sink: BinaryIO, limits: EngineLimits, loop: asyncio.AbstractEventLoop) -> None:
    """Answer requests until the service closes the pipe or a call asks for a new worker."""
    retire = False
    while not retire and (header := source.read(LENGTH.size)):
        request = source.read(*LENGTH.unpack(header))
        signal.setitimer(signal.ITIMER_REAL, limits.timeout_seconds + ALARM_GRACE_SECONDS)
        reply = answer(request, limits, loop)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(sink, reply)
        retire = reply["retire"]


def answer(request: bytes, limits: EngineLimits, loop: asyncio.AbstractEventLoop) -> Reply:
    """The reply to one request; what the call left in this process goes before it is sent."""
    try:
        return invoke(request.decode("ascii"), limits, loop)
    except MemoryError:
        return failure("tool-memory-exceeded", retire=True)
    finally:
        gc.collect()


def send(sink: BinaryIO, reply: Reply) -> None:
    """Write one reply completely."""
    left = memoryview(frame(json.dumps(reply).encode("ascii")))
    while left:
        left = left[sink.write(left) :]


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
