"""The system's confinement of a worker, in case a tool escapes the engine: tested with real system calls."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from app.services.tools.sandbox.tool_sandbox import ToolSandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, Landlock and limits are Linux's")

OUTLAW = """
import ctypes, encodings.idna, json, mmap, os, resource, signal, socket, subprocess, sys
from app.services.tools.sandbox.confinement import confine, leave_network, limit_cpu

parent, port, path = os.getppid(), int(sys.argv[1]), sys.argv[2]
"127.0.0.1".encode("idna")  # the codec of addresses is loaded from a file, which a confined process cannot open
own_network = leave_network()
weaknesses = confine(8 << 20, has_own_network=own_network)

def refused(act):
    try:
        act()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return None

def connect():
    socket.create_connection(("127.0.0.1", port), timeout=2)

def send():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", port))

def take():
    mmap.mmap(-1, 200 << 20).write(b"x" * (200 << 20))

limit_cpu(1)
print(json.dumps({
    "weaknesses": weaknesses,
    "connect": refused(connect),
    "send": refused(send),
    "read": refused(lambda: open(path)),
    "write": refused(lambda: open(path + ".new", "w")),
    "list": refused(lambda: os.listdir("/")),
    "start": refused(lambda: subprocess.run([sys.executable, "-c", "1"])),
    "memory": refused(lambda: bytearray(100 << 20)),
    "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0] <= 5,
    "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0],
    "fork": refused(os.fork),
    "exec": refused(lambda: os.execv("/bin/true", ["true"])),
    "socket": refused(lambda: socket.socket(socket.AF_UNIX)),
    "signal": refused(lambda: os.kill(parent, 0)),
    "trace": ctypes.CDLL(None, use_errno=True).ptrace(16, parent, 0, 0),
    "limits of others": refused(lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE)),
    "own limits": refused(lambda: resource.getrlimit(resource.RLIMIT_CPU)),
}))
"""


async def outlaw(port: int, path: Path) -> dict[str, object]:
    """The results of a process that confines itself and then attempts everything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OUTLAW, str(port), str(path)), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    return json.loads(printed)


async def test_a_confined_process_reaches_no_network_file_program_or_memory(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    reached = 0

    def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    tried = await outlaw(server.sockets[0].getsockname()[1], path)
    server.close()

    weaknesses = str(tried["weaknesses"])
    if "no network namespace" not in weaknesses:
        assert {tried["send"], tried["connect"]} <= {"OSError", "PermissionError"}
        assert reached == 0
    if "no Landlock" not in weaknesses:
        assert [tried[act] for act in ("read", "write", "list")] == ["PermissionError"] * 3
        assert tried["start"] is not None
    assert (tried["memory"], tried["cpu"], tried["processes"]) == ("MemoryError", True, 0)
    if "no seccomp" not in weaknesses:
        refusals = [tried[act] for act in ("fork", "exec", "socket", "signal", "limits of others")]
        assert refusals == ["PermissionError"] * 5
        assert (tried["trace"], tried["own limits"]) == (-1, None)
    assert path.read_text() == "secret"
    assert not (tmp_path / "secret.new").exists()


async def test_the_sandbox_reports_the_protections_that_this_system_lacks(sandbox: ToolSandbox) -> None:
    filtered = not any("no seccomp filter" in one for one in sandbox.weaknesses)
    root = ["runs as root, whose processes the kernel does not count"]

    assert [one for one in sandbox.weaknesses if "root" in one] == (root if os.getuid() == 0 and not filtered else [])


async def test_workers_keep_no_capability_and_filter_system_calls(sandbox: ToolSandbox) -> None:
    for pid in sandbox.worker_pids:
        lines = (await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)).splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)

        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        if not any("no seccomp filter" in one for one in sandbox.weaknesses):
            assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


async def test_workers_inherit_nothing_but_their_pipes(sandbox: ToolSandbox) -> None:
    own = {os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if one_exists(one)}
    for pid in sandbox.worker_pids:
        held = {int(one): os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")}

        assert [held[number] for number in (0, 1, 2)] == ["/dev/null"] * 3
        others = [held[number] for number in sorted(held) if number > 2]
        assert len([one for one in others if one.startswith("pipe:")]) == 2
        known = ("pipe:", "socket:", "anon_inode:", "/memfd:wasm")  # the last is the engine's own memory
        assert [one for one in others if not one.startswith(known) and not one.endswith("/statm")] == []
        assert not {one for one in others if one.startswith("socket:")} & own


def one_exists(descriptor: str) -> bool:
    """Whether a descriptor of this process is still open: the one that listed them is not."""
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


@pytest.mark.skipif(not Path("/proc/self/ns/net").exists(), reason="no network namespaces")
async def test_workers_share_no_network_with_the_service(sandbox: ToolSandbox) -> None:
    if any("network" in one for one in sandbox.weaknesses):
        pytest.skip("the kernel allows no network namespace here")
    own = os.readlink("/proc/self/ns/net")

    assert all(os.readlink(f"/proc/{pid}/ns/net") != own for pid in sandbox.worker_pids)
