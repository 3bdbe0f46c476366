"""The server process: its socket, its signals and its orderly stop."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from app.errors import StartupError
from app.main import create_app, create_worker_app, open_services
from app.server.edge.http import http_protocol
from app.server.edge.limits import Edge, EdgeLimits, connections_within, raise_open_files
from app.server.edge.request_turns import RequestTurns
from app.server.edge.websocket import SocketConnection
from app.services.access.admin_key import AdminKey
from app.services.access.sign_in_code import SignInCode
from app.services.runs.engine.opening import STOP_GRACE_SECONDS
from app.services.runs.engine.run_engine import RunEngine
from app.settings import Settings

SERVER_OPTIONS: dict[str, Any] = {
    "ws": SocketConnection,
    "ws_max_size": 64 * 1024,
    "ws_per_message_deflate": False,
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    "timeout_keep_alive": 75,
    "proxy_headers": False,
}
"""Pings find half-open event sockets. Compression is off: it would give each socket its own copy of every event.

Idle connections stay open longer than clients and load balancers keep theirs (most of them for up to 60 s), so that no
request is sent on a connection that is closing.

uvicorn's handling of forwarding headers would trust every client on this machine; `TrustedProxies` uses the settings.
"""
SWITCH_SECONDS = 0.0005
"""How long the event loop waits for the interpreter while a thread computes; Python's 5 ms add up in every iteration.

While a thread checks large JSON, this takes the p99 of another client's request from 114 ms to 77 ms.
"""
GRACE_SECONDS = 5
BACKLOG = 512
"""The number of connections that the kernel queues. All are accepted at once, which blocks the event loop meanwhile."""


def server_options(settings: Settings) -> dict[str, Any]:
    """Return uvicorn's options, with the connections of the edge."""
    limits = EdgeLimits(connections=connections_within(settings.max_connections, raise_open_files()))
    return {"http": http_protocol(Edge(limits)), **SERVER_OPTIONS}


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which would raise signals again before the database has closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, and set `ready`."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signal handlers alone."""
        yield


@dataclass(frozen=True)
class RunningServer:
    """A server that answers at `url`; `wait` returns once it has stopped."""

    url: str
    admin_key: AdminKey
    sign_in_code: SignInCode
    server: Server
    task: asyncio.Task[None]
    engine: RunEngine
    drain_seconds: float

    def stop(self, number: int, say: Callable[[str], None]) -> None:
        """Stop gracefully on a signal: report not ready, then accept no connections; on a second signal, stop at once.

        `say` receives a line about what the process waits for.
        """
        if self.server.force_exit:
            return
        if self.engine.is_stopping:
            say("Stopping at once.")
            self.engine.hurry.set()
            self.server.should_exit = self.server.force_exit = True
            return
        self.engine.drain()
        say(self._stop_notice())
        asyncio.get_running_loop().call_later(self.drain_seconds, self.server.handle_exit, number, None)

    def _stop_notice(self) -> str:
        """Describe what the process waits for before it ends."""
        waits: list[str] = []
        if self.drain_seconds:
            waits.append(f"answering for another {self.drain_seconds:g} s (DRAIN_SECONDS)")
        if running := self.engine.running:
            runs = "1 run" if running == 1 else f"{running} runs"
            waits.append(f"up to {STOP_GRACE_SECONDS:g} s for {runs} to end; the rest continue in the next process")
        return f"Stopping: {', then '.join(waits) or 'closing connections'}. Press Ctrl-C again to stop at once."

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect."""
        host = urlsplit(self.url).hostname or ""
        return ip_address(host).is_loopback

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self.task


@asynccontextmanager
async def running_server(settings: Settings, *, is_worker: bool = False) -> AsyncGenerator[RunningServer]:
    """Run the service for as long as the context lasts; a worker answers health checks and nothing else.

    Raises:
        StartupError: the service cannot start; the message says what to fix.
    """
    with contextlib.closing(listen(settings)) as listener:
        host, port = listener.getsockname()[:2]
        async with open_services(settings, is_worker=is_worker) as services:
            server = Server(
                uvicorn.Config(
                    RequestTurns(create_worker_app(services) if is_worker else create_app(settings, services)),
                    lifespan="off",  # this function opens the services
                    log_config=None,
                    access_log=False,
                    **server_options(settings),
                    backlog=BACKLOG,
                    timeout_graceful_shutdown=GRACE_SECONDS,
                )
            )
            sys.setswitchinterval(SWITCH_SECONDS)
            task = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            try:
                await asyncio.wait(
                    {task, asyncio.ensure_future(server.ready.wait())}, return_when=asyncio.FIRST_COMPLETED
                )
                gc.freeze()  # objects created at startup live until the end: exclude them from garbage collection
                shown = f"[{host}]" if ":" in host else host
                yield RunningServer(
                    f"http://{shown}:{port}",
                    services.admin_key,
                    services.sign_in_code,
                    server,
                    task,
                    services.engine,
                    settings.drain_seconds,
                )
            finally:
                server.should_exit = True
                await task


def listen(settings: Settings) -> socket.socket:
    """Open the socket on which the service listens.

    Raises:
        StartupError: the address is unavailable.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise StartupError(listening_problem(settings.host, settings.port, error)) from None


def listening_problem(host: str, port: int, error: Exception) -> str:
    """Name the setting that keeps the service from listening, and the fix."""
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return (
            f"PORT {port} on {host} is in use by another program, perhaps by a service that you started earlier. "
            "Stop that program, or set PORT to a free one."
        )
    if code in (errno.EACCES, errno.EPERM):
        return f"PORT {port} on {host} requires privileges that this user does not have. Set PORT to 1024 or higher."
    reason = getattr(error, "strerror", None) or str(error)
    return (
        f"HOST is invalid: cannot listen on {host!r} ({reason}). Set HOST to an address of this machine, such as "
        "127.0.0.1, or 0.0.0.0 for all of them."
    )


def leave_on_signals() -> None:
    """Let SIGTERM and Ctrl-C cancel a start in progress, even as process 1 of a container."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        if task:
            loop.add_signal_handler(number, task.cancel)


def stop_on_signals(running: RunningServer, say: Callable[[str], None]) -> None:
    """Let SIGTERM and Ctrl-C stop the server gracefully; a second signal stops it at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.stop, number, say)
