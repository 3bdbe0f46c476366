"""The seccomp filter of tool workers. Only workers import it: standard library only.

The engine needs memory, time, its pipes and little else. Every other call fails with `EPERM`, so that code that breaks
out of the engine can start no program, open no file or socket, and signal no other process.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
KILL_PROCESS = 0x80000000

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K
# Offsets in the kernel's `struct seccomp_data`; for an argument, the low half on a little-endian machine.
NUMBER_AT = 0
ARCHITECTURE_AT = 4
FIRST_ARGUMENT_AT = 16
INSTRUCTION = struct.Struct("=HBBI")


@dataclass(frozen=True)
class Architecture:
    """The kernel's name of an architecture and its numbers for the calls that are allowed."""

    audit: int
    calls: dict[str, int]
    own_process_only: dict[str, int]
    """Allowed where the first argument is this process, or 0, which means the same."""


X86_64 = Architecture(
    0xC000003E,
    {
        **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10},
        **{"munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17},
        **{"readv": 19, "writev": 20, "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup2": 33},
        **{"nanosleep": 35, "setitimer": 38, "getpid": 39, "sendto": 44, "recvfrom": 45, "exit": 60, "fcntl": 72},
        **{"gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "getppid": 110, "sigaltstack": 131, "gettid": 186},
        **{"time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228},
        **{"clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "pselect6": 270},
        **{"ppoll": 271, "epoll_pwait": 281, "dup3": 292, "getrandom": 318, "membarrier": 324},
        **{"rseq": 334, "epoll_pwait2": 441},
    },
    {"tgkill": 234, "prlimit64": 302},
)
AARCH64 = Architecture(
    0xC00000B7,
    {
        **{"epoll_ctl": 21, "epoll_pwait": 22, "dup3": 24, "fcntl": 25, "close": 57, "lseek": 62, "read": 63},
        **{"write": 64, "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "fstat": 80},
        **{"exit": 93, "exit_group": 94, "futex": 98, "nanosleep": 101, "setitimer": 103, "clock_gettime": 113},
        **{"clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128},
        **{"sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "getrlimit": 163},
        **{"getrusage": 165, "gettimeofday": 169, "getpid": 172, "getppid": 173, "gettid": 178, "sendto": 206},
        **{"recvfrom": 207, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233},
        **{"getrandom": 278, "membarrier": 283, "rseq": 293, "epoll_pwait2": 441},
    },
    {"tgkill": 131, "prlimit64": 261},
)
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}


class Program(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict_system_calls() -> bool:
    """Permanently restrict this process to the system calls that it needs.

    Returns:
        Whether the kernel enforces it: `False` on other systems, other processors and kernels without seccomp.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or sys.byteorder != "little" or architecture is None:
        return False
    code = filter_code(architecture, os.getpid())
    program = Program(len(code) // INSTRUCTION.size, code)
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def filter_code(architecture: Architecture, pid: int) -> bytes:
    """Return the filter: another architecture's call ends the process, a listed call passes, any other is refused."""
    code = [
        INSTRUCTION.pack(LOAD, 0, 0, ARCHITECTURE_AT),
        INSTRUCTION.pack(JUMP_EQUAL, 1, 0, architecture.audit),
        INSTRUCTION.pack(RETURN, 0, 0, KILL_PROCESS),
        INSTRUCTION.pack(LOAD, 0, 0, NUMBER_AT),
    ]
    for number in architecture.calls.values():
        code += [INSTRUCTION.pack(JUMP_EQUAL, 0, 1, number), INSTRUCTION.pack(RETURN, 0, 0, ALLOW)]
    for number in architecture.own_process_only.values():
        code += [
            INSTRUCTION.pack(JUMP_EQUAL, 0, 5, number),
            INSTRUCTION.pack(LOAD, 0, 0, FIRST_ARGUMENT_AT),
            INSTRUCTION.pack(JUMP_EQUAL, 1, 0, 0),
            INSTRUCTION.pack(JUMP_EQUAL, 0, 1, pid),
            INSTRUCTION.pack(RETURN, 0, 0, ALLOW),
            INSTRUCTION.pack(RETURN, 0, 0, REFUSE),
        ]
    return b"".join([*code, INSTRUCTION.pack(RETURN, 0, 0, REFUSE)])
