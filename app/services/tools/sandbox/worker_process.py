"""The service's side of one tool worker: starting it, asking it, ending it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from app.services.tools.sandbox.protocol import ANSWER, CALL, LENGTH, MAX_FETCHES, MAX_REPLY_BYTES, frame

IMPORT_ROOT = Path(__file__).parents[4]
START_SECONDS = 30.0
# The seconds that a process may take to exit after its pipe closed, so that its end can be reported.
ENDING_SECONDS = 0.2
SIGNALS = {number.value: number.name for number in signal.Signals}
# Ends a worker that the service failed to kill.
TIME_SIGNALS = frozenset({signal.SIGALRM, signal.SIGXCPU})

Fetch = Callable[[dict[str, Any]], Awaitable[bytes]]
"""Performs a tool's request and returns the answer for its worker as JSON; never fails."""


class WorkerDied(Exception):
    """The worker ended, or broke the protocol."""


@dataclass(frozen=True)
class WorkerExit:
    """A process's exit status: negative for a signal, `None` for a running process."""

    status: int | None

    @property
    def is_late(self) -> bool:
        """Whether a time limit ended it."""
        return self.status is not None and -self.status in TIME_SIGNALS

    def __str__(self) -> str:
        if self.status is None:
            return "broke the protocol"
        return SIGNALS.get(-self.status, f"exit status {self.status}")


class ToolWorker:
    """A worker process that answers one request at a time.

    After an `ask` that did not return a reply (an error, a cancellation) a late answer can still arrive: such
    a worker must be stopped and never used again.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise WorkerDied
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._pipes = asyncio.Lock()
        self.weaknesses: list[str] = []
        """The confinement that this system lacks, one sentence each."""

    @classmethod
    async def start(cls, *, timeout_seconds: float, memory_mb: int) -> Self:
        """Start a worker and wait until it is warm; on any failure no process is left.

        Raises:
            WorkerDied: it did not start.
        """
        arguments = (str(os.getpid()), str(timeout_seconds), str(memory_mb))
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app.services.tools.sandbox.worker", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={},
                cwd=IMPORT_ROOT,
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerDied from error
        worker = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                worker.weaknesses = list(map(str, (await worker._receive()).get("weaknesses", [])))
        except BaseException as error:
            await worker.stop()
            if isinstance(error, TimeoutError):
                raise WorkerDied from error
            raise
        return worker

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, even if the event loop has not noticed it yet."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def ending(self) -> "WorkerExit":
        """Return the end of a process that did not reply."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                await self._process.wait()
        return WorkerExit(self._process.returncode)

    async def ask(self, request: bytes, fetch: Fetch) -> dict[str, Any]:
        """Return the reply to one call; `fetch` performs the tool's requests meanwhile. No answer to a request is
        pending when this returns.

        Raises:
            WorkerDied: there will be no reply.
        """
        async with self._pipes:
            fetches: list[asyncio.Task[None]] = []
            try:
                await self._send(CALL + request)
                while "fetch" in (message := await self._receive()):
                    if len(fetches) >= MAX_FETCHES or not isinstance(message["fetch"], dict):
                        raise WorkerDied
                    fetches.append(asyncio.create_task(self._answer(message["fetch"], fetch)))
                return message
            finally:
                for task in fetches:
                    task.cancel()
                await asyncio.gather(*fetches, return_exceptions=True)

    async def stop(self) -> None:
        """Kill the process and wait until it is gone and its pipes are closed."""
        self.kill()
        async with self._pipes:
            await self._process.communicate()

    def kill(self) -> None:
        """Kill the process now; `stop` must still be awaited."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _answer(self, request: dict[str, Any], fetch: Fetch) -> None:
        await self._send(ANSWER + await fetch(request))

    async def _send(self, body: bytes) -> None:
        try:
            self._stdin.write(frame(body))
            await self._stdin.drain()
        except ConnectionError as error:
            raise WorkerDied from error

    async def _receive(self) -> dict[str, Any]:
        try:
            (length,) = LENGTH.unpack(await self._stdout.readexactly(LENGTH.size))
            if length > MAX_REPLY_BYTES:
                raise WorkerDied
            reply = json.loads(await self._stdout.readexactly(length))
        except (EOFError, ConnectionError, ValueError, RecursionError) as error:
            raise WorkerDied from error
        if not isinstance(reply, dict):
            raise WorkerDied
        return reply
