"""The limits of the edge: the cost of one connection, and its share of the event loop."""

import asyncio
import ctypes
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

TURN_SECONDS = 0.002
"""How long all connections together may parse before the event loop runs other work."""
TRIM_SECONDS = 1.0
FALLBACK_OPEN_FILES = 10_240
"""The maximum on macOS even if its hard limit is infinite."""
RESERVED_FILES = 256
"""Descriptors that are not connections: the database, Redis, models, tools, logs."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class EdgeLimits:
    """The bounds on every connection; the settings change those that depend on the machine."""

    connections: int = 4096
    head_bytes: int = 64 * 1024
    headers: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    pipelined: int = 16
    discarded_bytes: int = 8 * 1024 * 1024
    """How much of a body is still read after the response has been sent, so that the client can read the response."""
    small_chunks: int = 4096
    """How many chunks of a body may be tiny: parsing one costs as much as parsing thousands of bytes."""
    unread_seconds: float = 30.0
    unread_progress_bytes: int = 64 * 1024
    """How much a peer with unread output must read in `unread_seconds` to stay connected."""
    frames_per_second: int = 100
    frames_at_once: int = 400
    stranger_frames_per_second: int = 10
    stranger_frames_at_once: int = 32
    """The same for a socket that has not authenticated yet."""
    fragments: int = 64


class InputParser(Protocol):
    """A connection with input that has not been parsed yet."""

    def parse_piece(self) -> bool:
        """Parse one piece; return whether more can be parsed now."""
        ...


class Turns:
    """Lets connections with much input parse it in pieces, in turns, for a few milliseconds per round."""

    def __init__(self) -> None:
        self._waiting: deque[InputParser] = deque()
        self._running = False

    def add(self, parser: InputParser) -> None:
        """Queue a connection that is not queued yet."""
        self._waiting.append(parser)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        until = time.perf_counter() + TURN_SECONDS
        while self._waiting:
            parser = self._waiting.popleft()
            if parser.parse_piece():
                self._waiting.append(parser)
            if time.perf_counter() >= until:
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        else:
            self._running = False


class Starts:
    """Starts pipelined requests, one per round of the event loop, so that waiting connections come first."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, start: Callable[[], None]) -> None:
        """Queue the start of a request."""
        self._waiting.append(start)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._start_one)

    def _start_one(self) -> None:
        self._waiting[0]()
        self._waiting.popleft()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._start_one)


class InputBuffer:
    """The input of one connection that has not been parsed yet."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data, self._at = b"", 0

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self._data) - self._at

    def add(self, data: bytes) -> None:
        """Append received bytes."""
        self._data, self._at = self._data[self._at :] + data, 0

    def clear(self) -> None:
        """Discard all bytes."""
        self._data, self._at = b"", 0

    def take(self, size: int) -> bytes:
        """Remove and return the next bytes, at most `size`."""
        return self._take_to(self._at + size)

    def take_through(self, ends: tuple[bytes, ...], size: int) -> bytes:
        """Remove and return the next bytes up to and including the first of `ends`, at most `size`."""
        until = self._at + size
        for end in ends:
            found = self._data.find(end, self._at, until)
            if found >= 0:
                until = found + len(end)
        return self._take_to(until)

    def _take_to(self, until: int) -> bytes:
        piece = self._data[self._at : until]
        self._at += len(piece)
        if self._at == len(self._data):
            self.clear()
        return piece


class FrameBudget:
    """A token bucket: `at_once` frames, refilled at a rate."""

    __slots__ = ("_at", "_at_once", "_left", "_per_second")

    def __init__(self, per_second: int, at_once: int) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._left = float(at_once)
        self._at = time.monotonic()

    def spend(self) -> bool:
        """Count one frame; return whether it was within the budget."""
        if self._left < 1:
            now = time.monotonic()
            self._left = min(float(self._at_once), self._left + (now - self._at) * self._per_second)
            self._at = now
            if self._left < 1:
                return False
        elif self._left == self._at_once:
            self._at = time.monotonic()
        self._left -= 1
        return True


class Idle(Protocol):
    """A connection that may be closed in favor of another."""

    def give_up(self) -> None:
        """Close it at once."""
        ...


class Connections:
    """Counts connections; at the limit, a new connection replaces the one that has been idle for longest.

    A connection is idle while it waits for its peer: for a request, for the peer to read a response, or for a socket's
    credentials. Otherwise peers without credentials could occupy all connections.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._idle: dict[object, Idle] = {}

    def open(self, connection: Idle) -> bool:
        """Count a new connection, which is idle until it sends a request; return whether there is room for it."""
        self._count += 1
        self._idle[connection] = connection
        if self._count <= self._limit:
            return True
        oldest = next(iter(self._idle.values()))
        if oldest is connection:
            return False
        self.busy(oldest)
        oldest.give_up()
        return True

    def busy(self, connection: Idle) -> None:
        """Note that a connection has sent a complete request."""
        self._idle.pop(connection, None)

    def idle(self, connection: Idle) -> None:
        """Note that a connection waits for its peer."""
        self._idle[connection] = connection

    def close(self, connection: object) -> None:
        """Stop counting a connection."""
        self._count -= 1
        self._idle.pop(connection, None)


class FreedMemory:
    """Returns memory that the allocator keeps after many slow peers have left (only with glibc)."""

    def __init__(self) -> None:
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._is_due = False

    def return_soon(self) -> None:
        """Return the memory soon, once, in a thread."""
        if self._trim is not None and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(TRIM_SECONDS, self._return)

    def _return(self) -> None:
        self._is_due = False
        if self._trim is not None:
            asyncio.get_running_loop().run_in_executor(None, self._trim, 0)


class Edge:
    """The state that all connections of a server share."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.limits = limits
        self.turns = Turns()
        self.starts = Starts()
        self.memory = FreedMemory()
        self.connections = Connections(limits.connections)


def raise_open_files() -> int:
    """Raise the soft limit on open files to the hard one, and return the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, FALLBACK_OPEN_FILES):
        if wanted == soft or soft == resource.RLIM_INFINITY:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        soft = wanted
        break
    return soft


def connections_within(wanted: int, open_files: int) -> int:
    """Return the wanted number of connections, or fewer if the limit on open files requires it."""
    if open_files == resource.RLIM_INFINITY:
        return wanted
    possible = max(open_files - RESERVED_FILES, open_files // 2, 1)
    if possible < wanted:
        log.warning("few-open-files", connections=possible, advice="Raise the hard limit on open files (ulimit -Hn).")
    return min(wanted, possible)
