"""What a worker process gives up before it runs a tool's code. Imported by the worker alone: standard library only."""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

# Room in the worker itself for a request, its copies and the reply, beside the memory the tool may use.
HEADROOM_BYTES = 24 * 1024 * 1024
MAX_OPEN_FILES = 32
PR_SET_PDEATHSIG = 1

STATM = Path("/proc/self/statm")


def die_with_parent(parent_pid: int) -> None:
    """End this process when the service ends, however it ends.

    A worker that waits sees its pipe close on every system; on Linux the kernel also kills one that is inside an
    endless regular expression.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("The service ended before its tool worker began.")


def claim_pipes() -> tuple[int, int]:
    """The pipes to the service under descriptors of their own; whoever prints or reads writes to nowhere."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return requests, replies


def silence_errors() -> None:
    """Throw away what is written to stderr from here on: until the worker is ready it says why it cannot start."""
    os.dup2(1, 2)


def limit_resources(memory_bytes: int) -> int:
    """Fix this process's limits for good; gives the bytes at which allocations fail, 0 if the system does not count.

    The engine's own `memory_limit` does not see most of what buffers and strings take (3.4 GB were measured at a
    limit of 64 MB), so the kernel counts: what the warm process has, plus the budget. `RLIMIT_AS` cannot serve,
    WebAssembly reserves 4 GiB of addresses a call.
    """
    warm_bytes = data_bytes()
    limit = warm_bytes + memory_bytes + HEADROOM_BYTES if warm_bytes else 0
    if limit:
        _set_limit(resource.RLIMIT_DATA, limit)
    _set_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)
    return limit


def _set_limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (allowed, allowed))


def data_bytes() -> int:
    """The memory that `RLIMIT_DATA` counts, now; 0 where the system does not tell."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[5]) * resource.getpagesize()
