"""The guard between the service and its mongod: mongod never outlives the service, however the service ends.

It is run by path with only the standard library, so that it starts in a few milliseconds:
`python -I -S guard.py SERVICE_PID GRACE_SECONDS MONGOD [ARGUMENT …]`. It reports one line on its standard
output, `pid N` or `failed REASON`, then waits. The output of mongod goes to the guard's standard error.

The guard stops mongod (SIGTERM, after the grace period SIGKILL) when its standard input ends, which happens whenever
the service dies, when the service is no longer its parent (a forked child of the service may hold the pipe open), or
when it receives a signal to stop. The line `kill` on standard input kills mongod at once. If the guard is killed, Linux
kills mongod as well. The guard exits with the status of mongod, 128 + N after signal N.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

KILL_ORDER = b"kill\n"
SPAWN_FAILED_STATUS = 126

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PARENT_CHECK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Run mongod until it ends or must stop, and return its exit status."""
    service_pid, grace_seconds, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    signals_fd = _watch_signals()
    _raise_open_files()
    try:
        # There is one thread only, so code between fork and exec is safe. The command comes from the service.
        mongod = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=_STDERR, stderr=_STDERR, preexec_fn=_death_pact()
        )
    except OSError as error:
        _report(f"failed {error.strerror}")
        return SPAWN_FAILED_STATUS
    _report(f"pid {mongod.pid}")

    if _wait_for_order(mongod, signals_fd, service_pid) == KILL_ORDER:
        mongod.kill()
    elif mongod.poll() is None:
        _stop(mongod, grace_seconds)
    status = mongod.wait()
    return status if status >= 0 else 128 - status


def _raise_open_files() -> None:
    """Allow as many open files as this user may have: mongod needs two for each index, and stops at the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _watch_signals() -> int:
    """Forward signals to a pipe that `select` can wait for."""

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """Only a signal with a Python handler reaches the wake-up pipe."""

    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (*_STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, ignore)
    return read_fd


def _death_pact() -> Callable[[], None] | None:
    """Return a function that makes the child die with the guard, on Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    guard_pid = os.getpid()

    def tie_to_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:  # the guard died before the call
            os.kill(os.getpid(), signal.SIGKILL)

    return tie_to_guard


def _report(line: str) -> None:
    with contextlib.suppress(OSError):  # the service has died: the end of input follows
        os.write(_STDOUT, line.encode() + b"\n")


def _wait_for_order(mongod: subprocess.Popen[bytes], signals_fd: int, service_pid: int) -> bytes:
    """Wait until mongod has ended or must stop; return `KILL_ORDER` or nothing."""
    while mongod.poll() is None and os.getppid() == service_pid:
        readable, _, _ = select.select([_STDIN, signals_fd], [], [], _PARENT_CHECK_SECONDS)
        if signals_fd in readable and not set(os.read(signals_fd, 64)).isdisjoint(_STOP_SIGNALS):
            break
        if _STDIN in readable:
            return os.read(_STDIN, len(KILL_ORDER))
    return b""


def _stop(mongod: subprocess.Popen[bytes], grace_seconds: float) -> None:
    mongod.terminate()
    try:
        mongod.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        mongod.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
