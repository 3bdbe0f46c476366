"""The life of the worker processes: replaced when lost, gone when closed, dead with their parent."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.errors import StartupError
from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox import worker_process
from app.services.tools.sandbox.replies import breakdown
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox, is_reply, outcome_of
from tests.fixtures.exposition import counted
from tests.fixtures.sandboxes import Call, is_running, is_there, resident_bytes, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ENDLESS = ToolInvocation("() => { for (;;) {} }", None, {})
UNINTERRUPTIBLE = ToolInvocation("() => 'a'.repeat(5e6).indexOf('a'.repeat(2e6) + 'b')", None, {})

BUSY = "async n => { const big = new Array(10000).fill(n); await 0; console.log(n); return big[7] }"

PARENT = """
import asyncio, json
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox

async def main():
    sandbox = ToolSandbox(timeout_seconds=60, memory_mb=64)
    await sandbox.start()
    print(json.dumps(sandbox.worker_pids), flush=True)
    await sandbox.run(ToolInvocation("() => 'a'.repeat(5e6).indexOf('a'.repeat(2e6) + 'b')", None, {}))

asyncio.run(main())
"""


def cpu_ticks(pid: int) -> int:
    """User and system time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.005, 0.1])
async def test_a_cancelled_call_does_not_poison_the_next(sandbox: ToolSandbox, call: Call, seconds: float) -> None:
    cancelled = [asyncio.create_task(sandbox.run(ENDLESS)) for _ in range(3)]
    await asyncio.wait(cancelled, timeout=seconds)

    for task in cancelled:
        task.cancel()
    results = await asyncio.gather(*cancelled, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert await asyncio.gather(*(call("n => n", n) for n in range(6))) == list(range(6))


async def test_a_cancelled_call_that_cannot_be_interrupted_loses_its_process(sandbox: ToolSandbox) -> None:
    await until(lambda: len(sandbox.worker_pids) == 2)
    before = {pid: cpu_ticks(pid) for pid in sandbox.worker_pids}
    kills = counted("sandbox_kills_total", reason="cancelled")
    task = asyncio.create_task(sandbox.run(UNINTERRUPTIBLE))
    await until(lambda: any(cpu_ticks(pid) > ticks + 5 for pid, ticks in before.items()))

    task.cancel()

    await until(lambda: not all(is_running(pid) for pid in before))
    assert task.cancelled()
    assert counted("sandbox_kills_total", reason="cancelled") == kills + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGKILL, "tool-crashed", "The tool's process ended: SIGKILL."),
        (signal.SIGABRT, "tool-crashed", "The tool's process ended: SIGABRT."),
        (signal.SIGXCPU, "tool-timeout", "The tool did not finish in time and was killed."),
    ],
)
async def test_a_worker_that_dies_in_a_call_fails_that_call_alone(
    sandbox: ToolSandbox, call: Call, number: signal.Signals, code: str, message: str
) -> None:
    await until(lambda: len(sandbox.worker_pids) == 2)
    before = {pid: cpu_ticks(pid) for pid in sandbox.worker_pids}
    reason = "timeout" if code == "tool-timeout" else "crashed"
    kills, all_kills = counted("sandbox_kills_total", reason=reason), counted("sandbox_kills_total")
    task = asyncio.create_task(sandbox.run(ENDLESS))
    await until(lambda: any(cpu_ticks(pid) > ticks + 5 for pid, ticks in before.items()))

    with capture_logs() as logs:
        os.kill(max(before, key=lambda pid: cpu_ticks(pid) - before[pid]), number)

        assert await call("() => 'other'") == "other"
        with pytest.raises(ToolFailed) as caught:
            await task
    assert (caught.value.code, caught.value.message) == (code, message)
    assert counted("sandbox_kills_total", reason=reason) == kills + 1
    assert counted("sandbox_kills_total") == all_kills + 1
    assert [entry["ending"] for entry in logs if entry["event"] == "tool-worker-lost"] == [number.name]
    assert await asyncio.gather(*(call("n => n", n) for n in range(4))) == list(range(4))


def test_a_failure_of_the_worker_itself_is_reported_with_its_cause() -> None:
    error = KeyError("fetches")

    reply = breakdown(error)

    assert reply["error"] == {"code": "tool-crashed", "message": "The JavaScript engine failed while it ran the tool."}
    assert (reply["retire"], reply["cause"]) == (True, "KeyError: 'fetches'")
    assert is_reply(reply)


@pytest.mark.slow
async def test_workers_that_die_while_idle_fail_no_call(sandbox: ToolSandbox, call: Call) -> None:
    await until(lambda: len(sandbox.worker_pids) == 2)
    killed = sandbox.worker_pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(is_there, killed)))

    assert await asyncio.gather(*(call("n => n", n) for n in range(4))) == list(range(4))
    assert not set(killed) & set(sandbox.worker_pids)


async def test_one_tool_in_an_endless_loop_leaves_the_other_worker_free(sandbox: ToolSandbox, call: Call) -> None:
    looping = asyncio.create_task(sandbox.run(ENDLESS))

    outputs = [await call("n => n", n) for n in range(10)]

    assert outputs == list(range(10))
    assert not looping.done()
    looping.cancel()


@pytest.mark.slow
async def test_calls_beyond_the_queue_fail_because_the_sandbox_is_busy() -> None:
    async with running(ToolSandbox(timeout_seconds=0.3, memory_mb=16, workers=1, max_waiting=2)) as sandbox:
        results = await asyncio.gather(*(sandbox.run(ENDLESS) for _ in range(5)), return_exceptions=True)

    codes = [result.code for result in results if isinstance(result, ToolFailed)]
    assert codes == ["tool-timeout"] * 3 + ["tool-busy"] * 2


@pytest.mark.slow
async def test_a_call_that_waits_too_long_fails_because_the_sandbox_is_busy() -> None:
    sandbox = ToolSandbox(timeout_seconds=0.5, memory_mb=16, workers=1, max_wait_seconds=0.1)
    async with running(sandbox):
        results = await asyncio.gather(*(sandbox.run(ENDLESS) for _ in range(2)), return_exceptions=True)

        assert [result.code for result in results if isinstance(result, ToolFailed)] == ["tool-timeout", "tool-busy"]
        assert (await sandbox.run(ToolInvocation("() => 1", None, {}))).output == 1


@pytest.mark.slow
async def test_closing_ends_every_process_and_fails_the_calls_under_way() -> None:
    async with running(ToolSandbox(timeout_seconds=30, memory_mb=16)) as sandbox:
        pids = sandbox.worker_pids
        calls = [asyncio.create_task(sandbox.run(ENDLESS)) for _ in range(4)]
        await until(lambda: all(cpu_ticks(pid) > 0 for pid in pids))

        await sandbox.close()

        assert not any(map(is_there, pids))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {result.code for result in results if isinstance(result, ToolFailed)} == {"tool-crashed"}
        assert len(results) == 4
        with pytest.raises(ToolFailed, match="closing"):
            await sandbox.run(ENDLESS)


async def test_a_sandbox_that_cannot_start_says_so_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "IMPORT_ROOT", Path("/proc"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    sandbox = ToolSandbox(timeout_seconds=1, memory_mb=16)

    with pytest.raises(StartupError, match="tool sandbox cannot start"):
        await sandbox.start()

    assert sandbox.worker_pids == []


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"output": "1"},
        {"output": 1, "retire": False},
        {"error": "text", "retire": True},
        {"error": {}, "retire": True},
    ],
)
def test_a_reply_that_no_worker_sends_is_known(reply: dict[str, Any]) -> None:
    assert not is_reply(reply)


def test_an_output_that_is_not_json_is_the_worker_s_failure() -> None:
    with pytest.raises(ToolFailed, match="tool-crashed"):
        outcome_of({"output": "[", "retire": False}, duration_ms=1)


@pytest.mark.slow
async def test_workers_die_with_a_parent_that_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pids: list[int] = []
    try:
        line = (await parent.stdout.readline()).decode()
        pids = [int(pid) for pid in line.strip("[]\n").split(",")]
        before = {pid: cpu_ticks(pid) for pid in pids}
        await until(lambda: any(cpu_ticks(pid) > before[pid] + 5 for pid in pids))
    finally:
        parent.kill()
        await parent.communicate()

    assert len(pids) == 2
    await until(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.slow
async def test_a_thousand_calls_leave_no_process_descriptor_or_memory_behind(sandbox: ToolSandbox, call: Call) -> None:
    await until(lambda: len(sandbox.worker_pids) == 2)
    await asyncio.gather(*(call(BUSY, n) for n in range(50)))
    pids, children, files = sandbox.worker_pids, child_pids(), open_files(os.getpid())
    held = [resident_bytes(pid) for pid in (os.getpid(), *pids)]
    worker_files = [open_files(pid) for pid in pids]

    outputs = await asyncio.gather(*(call(BUSY, n) for n in range(1000)))

    assert outputs == list(range(1000))
    assert (sandbox.worker_pids, child_pids()) == (pids, children)
    assert open_files(os.getpid()) < files + 20, "connections of the session's services come and go"
    assert [open_files(pid) for pid in pids] == worker_files
    grown = [after - before for after, before in zip(map(resident_bytes, (os.getpid(), *pids)), held, strict=True)]
    assert max(grown) < 8 * 1024 * 1024, grown


def child_pids() -> set[str]:
    """The processes that this one has started and that are still there."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def open_files(pid: int) -> int:
    """The number of a process's descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))
