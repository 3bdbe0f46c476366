"""Confinement of a worker process before it runs tools' code. Only workers import it: standard library only.

Each step applies as far as the system allows; `dynamic-agents doctor` reports the missing ones.
"""

import ctypes
import math
import os
import resource
import signal
import struct
import sys
import time

from app.services.tools.sandbox.syscall_filter import PR_SET_NO_NEW_PRIVS, restrict_system_calls

# Memory for the engine itself, and in the worker for a request, its copies and the reply.
HEADROOM_BYTES = 24 * 1024 * 1024
MAX_OPEN_FILES = 32
CPU_GRACE_SECONDS = 2
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
MAX_CAPABILITIES = 64
MAX_DESCRIPTORS = 1 << 20
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
# These numbers are the same on every architecture.
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
TCP_RIGHTS = 0x3
SCOPES = 0x3

IS_LINUX = sys.platform == "linux"
IS_ROOT = os.getuid() == 0
"""Checked before the process enters its own user namespace."""


def die_with_parent(parent_pid: int) -> None:
    """End this process when the service ends for any reason.

    A waiting worker notices that its pipe closed on every system; on Linux the kernel also kills one that is inside an
    endless regular expression.
    """
    if IS_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit("The service ended before its tool worker began.")


def leave_network() -> bool:
    """Move this process into its own empty network namespace, in which not even the loopback is up.

    Must be called before the first thread starts. Returns whether the kernel allowed it: for unprivileged users
    through a user namespace, for root also without one.
    """
    if not IS_LINUX:
        return False
    libc = ctypes.CDLL(None)
    return libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWNET) == 0


def close_inherited() -> None:
    """Close every descriptor but the standard three and the one for this process's memory account."""
    kept = max(STATM, 2)
    os.closerange(3, kept)
    os.closerange(kept + 1, MAX_DESCRIPTORS)


def confine(memory_bytes: int, *, has_own_network: bool) -> list[str]:
    """Permanently give up files, processes, and memory beyond the budget; return the missing protections."""
    counts_memory = limit_resources(memory_bytes)
    landlock = landlock_everything()
    drop_capabilities()
    filters_calls = restrict_system_calls()
    weaknesses: list[str] = []
    if not has_own_network:
        left = "all but TCP connections, which Landlock refuses" if landlock >= 4 else "nothing but the engine"
        weaknesses.append(f"no network namespace of its own: only {left} protects the network")
    if landlock < 1:
        weaknesses.append("no Landlock: only the engine protects files that the service can read")
    if not counts_memory:
        weaknesses.append("memory is not limited by the kernel, only by the engine")
    if IS_LINUX and not filters_calls:
        weaknesses.append("no seccomp filter: code that escapes the engine can make any system call")
    if IS_ROOT and not filters_calls:
        weaknesses.append("runs as root, whose processes the kernel does not count")
    if not IS_LINUX:
        weaknesses.append("a worker in an endless loop outlives a killed service by the time limit of a call")
    return weaknesses


def drop_capabilities() -> None:
    """Give up every capability: root's, and those from the process's own user namespace."""
    if not IS_LINUX:
        return
    libc = ctypes.CDLL(None)
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(MAX_CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=II", CAPABILITY_VERSION_3, 0)
    libc.capset(header, bytes(24))


def limit_resources(memory_bytes: int) -> bool:
    """Set this process's limits. Returns whether the system counts its memory.

    The limit is the warm process's memory plus the budget and a reserve: the engine stops earlier and leaves the worker
    enough to report it. `RLIMIT_AS` does not work, because WebAssembly reserves 4 GiB of addresses per call.
    """
    warm_bytes = data_bytes()
    if warm_bytes:
        _set_limit(resource.RLIMIT_DATA, warm_bytes + memory_bytes + HEADROOM_BYTES)
    _set_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NPROC, 0)
    return warm_bytes > 0


def limit_cpu(seconds: float) -> None:
    """Limit the CPU time of the next call, in case all other limits fail."""
    soft = math.ceil(time.process_time() + seconds) + CPU_GRACE_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def landlock_everything() -> int:
    """Deny this process every file, and TCP, signals and abstract sockets if the kernel supports it.

    Returns the version of Landlock, 0 without Landlock. Open descriptors stay usable.
    """
    if not IS_LINUX:
        return 0
    libc = ctypes.CDLL(None)
    version: int = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1 or libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return 0
    files = FILE_RIGHTS[max(known for known in FILE_RIGHTS if known <= version)]
    tcp, scopes = TCP_RIGHTS if version >= 4 else 0, SCOPES if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    attributes = struct.pack("=QQQ", files, tcp, scopes)[:size]
    ruleset: int = libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return 0
    restricted: int = libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return version if restricted == 0 else 0


def _set_limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (allowed, allowed))


def _open_statm() -> int:
    """Return the kernel's memory account of this process, opened before files can no longer be opened."""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


STATM = _open_statm()


def data_bytes() -> int:
    """Return the memory that `RLIMIT_DATA` counts now; 0 if the system does not report it."""
    if STATM < 0:
        return 0
    return int(os.pread(STATM, 200, 0).split()[5]) * resource.getpagesize()
