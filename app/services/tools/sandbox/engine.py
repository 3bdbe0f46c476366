"""A JavaScript engine for one tool call; only this module, `engine_image` and `engine_calls` depend on the engine.

Only workers import it: standard library and the engine, nothing else. Every engine begins from one memory image in
which the prelude (`prelude/`) has already run, so an engine is prepared in a millisecond, before its call
arrives.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from quickjs_rs import (
    Context,
    DeadlockError,
    Handle,
    InterruptError,
    MemoryLimitError,
    QuickJSError,
    Runtime,
)
from wasmtime import Trap, TrapCode

from app.services.tools.sandbox.engine_calls import CountedFunction, typed_exports
from app.services.tools.sandbox.engine_image import EngineImage, exports_of, instance_of, memory_of, replace_exports
from app.services.tools.sandbox.replies import Reply, breakdown, failure, reply_to, whole_characters

PRELUDE = Path(__file__).with_name("prelude")
PARTS = ("core", "console", "timers", "encoding", "clone", "random", "url", "abort", "fetch", "locale", "call")
RUN_REACTIONS = "execute_pending_jobs"
ALMOST_FULL_BYTES = 2 * 1024 * 1024
# The engine's own memory besides a tool's values: their headers, and gaps between them.
OWN_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class EngineLimits:
    """The limits of one call."""

    timeout_seconds: float
    memory_bytes: int


class EngineHost(Protocol):
    """The part of the worker that an engine uses."""

    open_fetches: int

    def send_fetches(self, fetches: list[dict[str, Any]]) -> None:
        """Pass requests of `fetch` on to the service."""
        ...

    def wait(self, seconds: float) -> list[str]:
        """Wait for answers to open requests, at most `seconds`. Returns the answers as JSON."""
        ...


def make_image(limits: EngineLimits) -> EngineImage:
    """Return the memory of an engine in which the prelude has run."""
    parts = ",\n".join((PRELUDE / f"{name}.js").read_text(encoding="utf-8") for name in PARTS)
    with Runtime(memory_limit=limits.memory_bytes) as runtime:
        context: Context = runtime.new_context(timeout=limits.timeout_seconds)
        new = memory_of(context)
        core = "const core = {}; for (const part of parts) part(globalThis, core);"
        context.eval_handle(f"((parts) => {{ {core} }})([{parts}])").dispose()
        return EngineImage.taken(context, new)


@dataclass(frozen=True)
class EngineMemory:
    """The memory block of an engine; it grows and never shrinks.

    The engine's own `memory_limit` does not count most of what buffers and strings use (3.4 GB were measured at a limit
    of 64 MB). This class bounds the block; the kernel's limit is the last resort, because a process that reaches it has
    no memory left to report it.
    """

    instance: Any
    bytes_before: int
    limit: int

    @classmethod
    def bounded(cls, context: Context, memory_bytes: int) -> "EngineMemory":
        """Return the memory of a context, which can grow by `memory_bytes` from now on."""
        instance = instance_of(context)
        before: int = instance.mem.data_len(instance.store)
        limit = before + memory_bytes + OWN_BYTES
        instance.store.set_limits(memory_size=limit)
        return cls(instance, before, limit)

    @property
    def grown_bytes(self) -> int:
        """The number of bytes by which the memory grew during the call."""
        return self.instance.mem.data_len(self.instance.store) - self.bytes_before

    @property
    def is_spent(self) -> bool:
        """Whether almost no memory is left."""
        return self.bytes_before + self.grown_bytes > self.limit - ALMOST_FULL_BYTES


@dataclass
class Engine:
    """An engine that is ready for its one call."""

    limits: EngineLimits
    runtime: Runtime
    context: Context
    exchange: Handle
    reactions: CountedFunction
    memory: EngineMemory
    handles: list[Handle] = field(default_factory=list[Handle])

    @classmethod
    def prepare(cls, image: EngineImage, limits: EngineLimits) -> "Engine":
        """Create an engine from the image."""
        runtime = Runtime(memory_limit=limits.memory_bytes)
        context: Context = runtime.new_context(timeout=limits.timeout_seconds)
        instance = instance_of(context)
        exports = typed_exports(exports_of(instance), instance.store)
        reactions = CountedFunction(exports[RUN_REACTIONS])
        replace_exports(instance, exports | {RUN_REACTIONS: reactions})
        image.write(context)
        exchange = context.eval_handle("exchange")
        memory = EngineMemory.bounded(context, limits.memory_bytes)
        return cls(limits, runtime, context, exchange, reactions, memory, [exchange])

    def invoke(self, request: str, host: EngineHost, loop: asyncio.AbstractEventLoop) -> Reply:
        """Run one request (JSON text) and return the reply; the engine cannot be used again.

        A failure that the tool did not cause asks for a new worker; an unexpected error ends this one.

        Raises:
            MemoryError: the worker itself has no memory left.
        """
        try:
            answer = self._evaluate(request, time.monotonic() + self.limits.timeout_seconds, host, loop)
            reply = reply_to(json.loads(whole_characters(answer)), memory_is_spent=self.memory.is_spent)
        except InterruptError:
            reply = failure("tool-timeout")
        except DeadlockError:
            reply = failure("tool-never-settled")
        except MemoryLimitError:
            reply = failure("tool-memory-exceeded")
        except Trap as trap:
            overflow = trap.trap_code == TrapCode.STACK_OVERFLOW
            reply = failure("tool-recursion") if overflow else self._breakdown(trap)
        except QuickJSError as error:
            reply = self._breakdown(error)
        return {"console": self._logged()} | reply | {"memoryBytes": self.memory.grown_bytes}

    def close(self) -> None:
        """Discard the engine with its memory, in any state.

        Closing first keeps the disposal from entering the engine, which a trap may have broken.
        """
        self.context.close()
        self.runtime.close()
        for handle in self.handles:
            handle.dispose()

    def _evaluate(self, request: str, deadline: float, host: EngineHost, loop: asyncio.AbstractEventLoop) -> str:
        self.context.globals["request"] = request
        answer = self._kept(self.context.eval_handle("run()"))
        if answer.type_of != "string":
            answer = self._drive(answer, deadline, host, loop)
        return answer.to_python()

    def _drive(self, promise: Handle, deadline: float, host: EngineHost, loop: asyncio.AbstractEventLoop) -> Handle:
        """Run promise reactions until this promise settles, waiting with the tool for timers and answers.

        The engine runs at most 100,000 reactions at once and then reports a deadlock; it is one only if none ran.

        Raises:
            InterruptError: the deadline passed; an interrupt inside a reaction looks like a deadlock.
            DeadlockError: the promise has not settled, and nothing is left to run.
        """
        while True:
            left = deadline - time.monotonic()
            try:
                return self._kept(loop.run_until_complete(promise.await_promise(timeout=left)))
            except DeadlockError:
                if time.monotonic() >= deadline:
                    raise InterruptError from None
                if self.reactions.last == 0:
                    self._wait(deadline, host)

    def _wait(self, deadline: float, host: EngineHost) -> None:
        """Wait for the tool's timers and requests; deliver answers and fire due timers.

        Raises:
            DeadlockError: the tool waits for nothing.
            InterruptError: the deadline passed.
        """
        wanted = json.loads(self._tell(""))
        host.send_fetches(wanted["fetches"])
        if wanted["wait"] is None and not host.open_fetches:
            raise DeadlockError
        left = deadline - time.monotonic()
        patience = left if wanted["wait"] is None else min(wanted["wait"] / 1000, left)
        for answer in host.wait(max(patience, 0)):
            self._tell(answer)
        if time.monotonic() >= deadline:
            raise InterruptError
        self._tell("timers")

    def _logged(self) -> list[str]:
        """Return the console lines of a tool that did not finish, if the engine still responds."""
        try:
            return json.loads(f"[{whole_characters(self._tell('console'))}]")
        except (QuickJSError, Trap, ValueError):
            return []

    def _tell(self, message: str) -> str:
        with self.exchange.call(message) as reply:
            return reply.to_python()

    def _kept(self, handle: Handle) -> Handle:
        self.handles.append(handle)
        return handle

    def _breakdown(self, error: Exception) -> Reply:
        """Return the reply after a failure of the engine or of the script around the tool: out of memory, or
        unexplained."""
        return failure("tool-memory-exceeded", retire=True) if self.memory.is_spent else breakdown(error)
