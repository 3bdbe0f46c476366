"""The tool worker: `python -m app.services.tools.sandbox.worker PARENT_PID TIMEOUT_SECONDS MEMORY_MB`.

It takes calls from stdin and answers on stdout, one at a time, until stdin closes or the service kills it. After each
answer it prepares the next engine. It reports unexpected errors to the service, which starts another worker.
"""

import asyncio
import gc
import os
import signal
import sys

from app.services.tools.sandbox.confinement import close_inherited, confine, die_with_parent, leave_network, limit_cpu
from app.services.tools.sandbox.engine import Engine, EngineLimits, make_image
from app.services.tools.sandbox.engine_image import EngineImage
from app.services.tools.sandbox.pipes import ServicePipe, silence_errors
from app.services.tools.sandbox.protocol import encode_request
from app.services.tools.sandbox.replies import Reply, breakdown, failure

# The kernel ends a worker that the service should have killed long before: the service itself may hang.
ALARM_GRACE_SECONDS = 1.0
WARM_UP_SECONDS = 10.0


def main(parent_pid: int, timeout_seconds: float, memory_mb: int) -> None:
    """Warm up, confine the process, then serve."""
    die_with_parent(parent_pid)
    close_inherited()
    pipe = ServicePipe.claim()
    os.chdir("/")
    has_own_network = leave_network()
    memory_bytes = memory_mb * 1024 * 1024
    loop = asyncio.new_event_loop()
    image = warm_up(memory_bytes, pipe, loop)
    silence_errors()
    weaknesses = confine(memory_bytes, has_own_network=has_own_network)
    limits = EngineLimits(timeout_seconds, memory_bytes)
    pipe.send({"ready": True, "weaknesses": weaknesses})
    serve(pipe, image, limits, loop)


def warm_up(memory_bytes: int, pipe: ServicePipe, loop: asyncio.AbstractEventLoop) -> EngineImage:
    """Compile the engine (half a second), take the memory that every call needs, and make the image of all engines."""
    limits = EngineLimits(WARM_UP_SECONDS, memory_bytes)
    image = make_image(limits)
    request = encode_request({"code": "async () => 1", "input": None, "context": {}, "checkOnly": False})
    engine = Engine.prepare(image, limits)
    reply = engine.invoke(request.decode("ascii"), pipe, loop)
    engine.close()
    if reply.get("output") != "1":
        sys.exit(f"The JavaScript engine does not work here: {reply}")
    gc.collect()
    gc.freeze()
    return image


def serve(pipe: ServicePipe, image: EngineImage, limits: EngineLimits, loop: asyncio.AbstractEventLoop) -> None:
    """Answer calls until the service closes the pipe or a call asks for a new worker."""
    retire = False
    while not retire:
        engine = Engine.prepare(image, limits)
        request = pipe.receive_call()
        if request is None:
            return
        limit_cpu(limits.timeout_seconds)
        signal.setitimer(signal.ITIMER_REAL, limits.timeout_seconds + ALARM_GRACE_SECONDS)
        reply = answer(engine, request, pipe, loop)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(reply)
        retire = reply["retire"]
        engine.close()
        gc.collect()


def answer(engine: Engine, request: bytes, pipe: ServicePipe, loop: asyncio.AbstractEventLoop) -> Reply:
    """Return the reply to one call."""
    try:
        return engine.invoke(request.decode("ascii"), pipe, loop)
    except MemoryError:
        engine.close()
        return failure("tool-memory-exceeded", retire=True)
    except Exception as error:  # noqa: BLE001 - the edge of a worker: the reason must reach the service
        return breakdown(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
