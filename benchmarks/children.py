"""Processes that a benchmark starts: awaited until they answer, measured, and ended with it whatever happens."""

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).parents[1]
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.01
PORT = "{port}"
"""Stands in a command for the port that the child is given."""
LOG_TAIL_CHARACTERS = 2000
PR_SET_PDEATHSIG = 1
MEBIBYTE = 1024 * 1024


class ChildFailed(Exception):
    """A process did not come up; the message has the end of its log."""


@dataclass(frozen=True)
class Child:
    """A running process that serves on a loopback port."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, path: str) -> None:
        """Wait until a path answers 200.

        Raises:
            ChildFailed: it ended, or took longer than a minute.
        """
        self._wait_until(lambda: answers(self.port, path))

    def wait_until_listening(self) -> None:
        """Wait until it takes connections, for a child that does not speak HTTP.

        Raises:
            ChildFailed: it ended, or took longer than a minute.
        """
        self._wait_until(lambda: listens(self.port))

    def _wait_until(self, is_up: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]
                raise ChildFailed(f"{self.log.stem} did not come up:\n{tail}")
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Usage:
    """CPU seconds that a process and those below it have used so far, and its own resident memory in MiB.

    Zero where there is no `/proc`.
    """

    own_seconds: float = 0.0
    database_seconds: float = 0.0
    other_seconds: float = 0.0
    resident_mb: float = 0.0


@contextlib.contextmanager
def running(name: str, command: list[str], environment: Mapping[str, str], directory: Path) -> Generator[Child]:
    """Run a command that serves on the port given to it as `PORT`; stopped at the end, killed if it will not stop.

    In the command `{port}` stands for the port. It sees no variable of this machine but those that a program needs to
    start, and dies with the benchmark.
    """
    port = free_port()
    log = directory / f"{name}.log"
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [part.replace(PORT, str(port)) for part in command],
            cwd=directory,
            env={**inherited, "PYTHONPATH": str(PROJECT_ROOT), **environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(),
        )
    try:
        yield Child(process, port, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> Callable[[], None] | None:
    """Return a hook for a child on Linux, which then receives SIGTERM even if the benchmark is killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return tie


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether a loopback port accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str) -> bool:
    """Return whether a GET of the path returns 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def usage_of(pid: int) -> Usage:
    """Return the resource usage of a process and its descendants."""
    if not Path("/proc/self/stat").exists():
        return Usage()
    stats = read_process_table()
    below = descendants(pid, {child: parent for child, (parent, _, _) in stats.items()})
    database = sum(stats[child][2] for child in below if stats[child][1] == "mongod")
    everything = sum(stats[child][2] for child in below)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Usage(stats[pid][2], database, everything - database, pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE)


def read_process_table() -> dict[int, tuple[int, str, float]]:
    """Parent, name and CPU seconds of every process there is."""
    ticks = os.sysconf("SC_CLK_TCK")
    found: dict[int, tuple[int, str, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            found[int(stat.parent.name)] = (int(fields[1]), name, (int(fields[11]) + int(fields[12])) / ticks)
    return found


def descendants(pid: int, parents: Mapping[int, int]) -> list[int]:
    """All processes below one."""
    children = [child for child, parent in parents.items() if parent == pid]
    return children + [below for child in children for below in descendants(child, parents)]
