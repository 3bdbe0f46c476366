"""What the system itself refuses a worker, should the engine ever let a tool out: tried by real system calls."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from app.services.tools.sandbox import ToolSandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces, Landlock and limits are Linux's")

OUTLAW = """
import json, mmap, os, resource, signal, socket, subprocess, sys
from app.services.tools.confinement import confine, leave_network, limit_cpu

parent, port, path = os.getppid(), int(sys.argv[1]), sys.argv[2]
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
}))
"""


async def outlaw(port: int, path: Path) -> dict[str, object]:
    """What became of a process that gives everything up and then tries everything."""
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
        assert tried["send"] == "OSError"
        assert {tried["connect"]} <= {"OSError", "PermissionError"}
        assert reached == 0
    if "no Landlock" not in weaknesses:
        assert [tried[act] for act in ("read", "write", "list")] == ["PermissionError"] * 3
        assert tried["start"] is not None
    assert (tried["memory"], tried["cpu"], tried["processes"]) == ("MemoryError", True, 0)
    assert path.read_text() == "secret"
    assert not (tmp_path / "secret.new").exists()


async def test_the_sandbox_tells_what_this_system_cannot_keep_tools_from(sandbox: ToolSandbox) -> None:
    expected = ["runs as root, whose processes the kernel does not count"] if os.getuid() == 0 else []

    assert [one for one in sandbox.weaknesses if "root" in one] == expected


@pytest.mark.skipif(not Path("/proc/self/ns/net").exists(), reason="no network namespaces")
async def test_workers_share_no_network_with_the_service(sandbox: ToolSandbox) -> None:
    if any("network" in one for one in sandbox.weaknesses):
        pytest.skip("the kernel allows no network namespace here")
    own = os.readlink("/proc/self/ns/net")

    assert all(os.readlink(f"/proc/{pid}/ns/net") != own for pid in sandbox.worker_pids)
