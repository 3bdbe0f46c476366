"""The sandbox: runs the JavaScript of custom tools in worker processes that can be killed at any time."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from pydantic import JsonValue

from app.errors import StartupError
from app.kit.json_limits import MAX_INTEGER
from app.services.tools.egress.guard import Egress
from app.services.tools.outcomes import ToolFailed, ToolOutcome
from app.services.tools.sandbox.protocol import MAX_REQUEST_BYTES, encode_request
from app.services.tools.sandbox.worker_process import ToolWorker, WorkerDied
from app.telemetry.metrics import SANDBOX_KILLS, TOOL_WAIT

# The engine stops itself at the deadline; a worker that it cannot interrupt is killed this much later.
KILL_GRACE_SECONDS = 0.25

log = structlog.get_logger()

WorkerStart = asyncio.Task[ToolWorker]


@dataclass(frozen=True)
class ToolInvocation:
    """One call: the tool's code, its input, and the context (`executionId`, `agentId`, `department`, `project`)."""

    code: str
    input: JsonValue
    context: Mapping[str, JsonValue]

    @property
    def may_fetch(self) -> bool:
        """Whether the tool has `fetch`; code that does not name it has no side effects and can be repeated."""
        return "fetch" in self.code


class ToolSandbox:
    """A few warm worker processes and a bounded queue in front of them.

    Every call gets its own engine, so nothing leaks from one call to the next. A worker that was killed, died
    or misbehaved is replaced while the others continue. Belongs to the event loop that it was started on.
    """

    def __init__(
        self,
        *,
        timeout_seconds: float,
        memory_mb: int,
        workers: int = 2,
        egress: Egress | None = None,
        max_waiting: int = 1000,
        max_wait_seconds: float = 60.0,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._memory_mb = memory_mb
        self._workers = workers
        self._egress = egress or Egress()
        self._max_waiting = max_waiting
        self._max_wait_seconds = max_wait_seconds
        self._waiting = 0
        self._closed = True
        self._turns = asyncio.Semaphore(workers)
        # A worker is identified by the task that starts it, so that a starting worker can be taken and awaited too.
        # The holder of a turn always finds an idle worker: there are as many workers as turns.
        self._members: set[WorkerStart] = set()
        self._idle: list[WorkerStart] = []

    @property
    def worker_pids(self) -> list[int]:
        """The running processes, busy or idle."""
        return [start.result().pid for start in self._members if has_started(start)]

    @property
    def worker_states(self) -> dict[str, int]:
        """The number of workers that are idle, busy and starting."""
        starting = sum(not start.done() for start in self._members)
        idle = sum(start.done() for start in self._idle)
        return {"idle": idle, "busy": max(len(self._members) - starting - idle, 0), "starting": starting}

    @property
    def weaknesses(self) -> list[str]:
        """The confinement that this system lacks, one sentence each."""
        return next((start.result().weaknesses for start in self._members if has_started(start)), [])

    async def start(self) -> None:
        """Start the workers and wait until all are warm.

        Raises:
            StartupError: a worker does not start; none is left running.
        """
        self._closed = False
        for _ in range(self._workers):
            self._add(self._start_worker())
        try:
            await asyncio.gather(*self._members)
        except BaseException as error:
            await self.close()
            if isinstance(error, WorkerDied):
                message = "The tool sandbox cannot start: a worker process ended before it was ready, see stderr."
                raise StartupError(message) from error
            raise

    async def run(self, invocation: ToolInvocation) -> ToolOutcome:
        """Call the tool with its input.

        The worker of a cancelled call is killed, so no later call can meet its answer.

        Raises:
            ToolFailed: the call failed; the code says why.
        """
        call = {"input": invocation.input, "context": dict(invocation.context), "checkOnly": False}
        return await self._ask(invocation.code, call | {"mayFetch": invocation.may_fetch})

    async def check(self, code: str) -> None:
        """Compile the code and check that it is a function, without calling it.

        Raises:
            ToolFailed: `tool-syntax-error` names the line; code around the function can fail with other codes.
        """
        await self._ask(code, {"input": None, "context": {}, "checkOnly": True})

    async def close(self) -> None:
        """End all workers; calls in progress fail. No process is left when this returns."""
        self._closed = True
        members = tuple(self._members)
        self._members.clear()
        self._idle.clear()
        for start in members:
            if has_started(start):
                start.result().kill()
        for worker in await asyncio.gather(*members, return_exceptions=True):
            if isinstance(worker, ToolWorker):
                await worker.stop()

    async def _ask(self, code: str, call: dict[str, Any]) -> ToolOutcome:
        request = encode({"code": code, **call})
        async with self._turn():
            start = await self._take()
            started = time.perf_counter()
            try:
                reply = await self._ask_worker(start, request)
                return outcome_of(reply, duration_ms=milliseconds_since(started))
            except ToolFailed as error:
                error.duration_ms = milliseconds_since(started)
                raise

    async def _ask_worker(self, start: WorkerStart, request: bytes) -> dict[str, Any]:
        """Return the worker's reply; a worker that does not reply, or asks for it, is replaced."""
        reusable = False
        seconds = self._timeout_seconds + KILL_GRACE_SECONDS
        fetch = partial(self._egress.answer, until=asyncio.get_running_loop().time() + self._timeout_seconds)
        try:
            async with asyncio.timeout(seconds):
                reply = await start.result().ask(request, fetch)
            reusable = is_reply(reply) and not reply["retire"]
            if not is_reply(reply):
                raise WorkerDied
            if "cause" in reply:
                log.warning("tool-engine-failed", pid=start.result().pid, cause=reply["cause"])
            return reply
        except TimeoutError:
            SANDBOX_KILLS.labels("timeout").inc()
            raise killed() from None
        except WorkerDied:
            raise await self._loss(start.result()) from None
        except asyncio.CancelledError:
            SANDBOX_KILLS.labels("cancelled").inc()
            raise
        finally:
            if reusable:
                self._idle.append(start)
            else:
                self._replace(start)

    async def _loss(self, worker: ToolWorker) -> ToolFailed:
        """Return the error of a call whose worker did not reply; the log says how the process ended."""
        if self._closed:
            return ToolFailed("tool-crashed", "The service is closing.")
        ending = await worker.ending()
        SANDBOX_KILLS.labels("timeout" if ending.is_late else "crashed").inc()
        log.warning("tool-worker-lost", pid=worker.pid, ending=str(ending))
        return killed() if ending.is_late else ToolFailed("tool-crashed", f"The tool's process ended: {ending}.")

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        if self._turns.locked() and self._waiting >= self._max_waiting:
            raise ToolFailed("tool-busy", "Too many tool calls are already waiting.")
        self._waiting += 1
        try:
            with TOOL_WAIT.time():
                async with asyncio.timeout(self._max_wait_seconds):
                    await self._turns.acquire()
        except TimeoutError:
            raise ToolFailed("tool-busy", "The tool call waited too long for its turn.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    async def _take(self) -> WorkerStart:
        """Return a live worker; wait for one that is still starting only if no other is idle."""
        while not self._closed:
            start = next(filter(has_started, self._idle), self._idle[0])
            self._idle.remove(start)
            try:
                worker = await asyncio.shield(start)
            except WorkerDied:
                self._replace(start)
                raise ToolFailed("tool-crashed", "No process could be started to run the tool.") from None
            except asyncio.CancelledError:
                self._idle.append(start)
                raise
            if not worker.has_ended:
                return start
            self._replace(start)
        raise ToolFailed("tool-crashed", "The service is closing.")

    def _replace(self, start: WorkerStart) -> None:
        """Replace this worker with a new one in the background; while closing, `close` ends the old one."""
        if not self._closed:
            log.info("tool-worker-replaced", pid=start.result().pid if has_started(start) else None)
            self._members.discard(start)
            self._add(self._succeed(start))

    async def _succeed(self, start: WorkerStart) -> ToolWorker:
        if has_started(start):
            await start.result().stop()
        if self._closed:
            raise WorkerDied
        return await self._start_worker()

    async def _start_worker(self) -> ToolWorker:
        return await ToolWorker.start(timeout_seconds=self._timeout_seconds, memory_mb=self._memory_mb)

    def _add(self, start: Coroutine[None, None, ToolWorker]) -> None:
        task = asyncio.create_task(start)
        self._members.add(task)
        self._idle.append(task)


def has_started(start: WorkerStart) -> bool:
    """Return whether this worker has started; it may have ended since."""
    return start.done() and not start.cancelled() and start.exception() is None


def killed() -> ToolFailed:
    """Return the failure of a call that only a signal could end."""
    return ToolFailed("tool-timeout", "The tool did not finish in time and was killed.")


def encode(body: dict[str, Any]) -> bytes:
    """Return the request's bytes.

    Raises:
        ToolFailed: the input cannot be handed to a tool.
    """
    try:
        request = encode_request(body)
    except (ValueError, RecursionError) as error:
        raise ToolFailed("tool-input-invalid", "The tool's input is not JSON, or is nested too deeply.") from error
    if len(request) > MAX_REQUEST_BYTES:
        raise ToolFailed("tool-input-invalid", f"Code and input together exceed {MAX_REQUEST_BYTES} bytes.")
    return request


def is_reply(reply: dict[str, Any]) -> bool:
    """Return whether a worker sends such replies."""
    error = reply.get("error")
    has_result = (
        isinstance(reply.get("output"), str)
        if error is None
        else isinstance(error, dict) and {"code", "message"} <= error.keys()
    )
    return has_result and isinstance(reply.get("retire"), bool) and isinstance(reply.get("console", []), list)


def outcome_of(reply: dict[str, Any], *, duration_ms: float) -> ToolOutcome:
    """Return the outcome in a reply.

    Raises:
        ToolFailed: the reply reports a failure.
    """
    console = [str(line) for line in reply.get("console", [])]
    memory_bytes = reply.get("memoryBytes")
    if "error" in reply:
        code, message = str(reply["error"]["code"]), str(reply["error"]["message"])
        raise ToolFailed(code, message, console=console, memory_bytes=memory_bytes)
    try:
        output = json.loads(reply["output"], parse_int=number_of)
    except (ValueError, RecursionError):
        raise ToolFailed("tool-crashed", "The process that ran the tool did not answer with JSON.") from None
    return ToolOutcome(output, duration_ms, console, memory_bytes)


def milliseconds_since(started: float) -> float:
    """Return the time that has passed, to the microsecond."""
    return round((time.perf_counter() - started) * 1000, 3)


def number_of(digits: str) -> int | float:
    """Return a whole number from JavaScript; beyond 2^53 it was never exact, and BSON cannot store it as an integer."""
    number = int(digits)
    return number if abs(number) <= MAX_INTEGER else float(number)
