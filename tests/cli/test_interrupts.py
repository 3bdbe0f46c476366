"""Ctrl-C at any moment of a command: before its work begins, twice at once, and until the process has ended."""

import asyncio
import signal
import sys
from asyncio.subprocess import STDOUT
from pathlib import Path

import pytest

from tests.fixtures.processes import bare_environment, execute, processes_in, serving
from tests.fixtures.waiting import wait_until


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_interrupt_of_the_imports_prints_nothing(tmp_path: Path) -> None:
    process = await execute("serve", cwd=tmp_path, stderr=STDOUT, environment=bare_environment(PORT="0"))
    maps = Path(f"/proc/{process.pid}/maps")

    await wait_until(lambda: "pydantic_core" in maps.read_text(), 60)
    process.send_signal(signal.SIGINT)
    printed = (await asyncio.wait_for(process.communicate(), 30))[0].decode()

    assert (printed, process.returncode) == ("", -signal.SIGINT)


async def test_two_interrupts_at_once_stop_without_a_traceback(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.stdout is not None
        first = (await server.process.stdout.readline()).decode()
        code = await server.stop(signal.SIGINT)

    assert first.startswith("Stopping: closing connections.")
    assert server.printed.count("Stopping at once.") == 1
    assert code == 0
    assert_untroubled(tmp_path)


async def test_interrupts_until_the_end_print_no_exception(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:

        def ended_by_another_interrupt() -> bool:
            server.process.send_signal(signal.SIGINT)
            return server.process.returncode is not None

        await wait_until(ended_by_another_interrupt, 30)
        code = await server.stop()

    assert code in (0, -signal.SIGINT)
    assert server.printed.count("Stopping at once.") == 1
    assert_untroubled(tmp_path)


def assert_untroubled(directory: Path) -> None:
    """Nothing was raised, and no process is left."""
    log = (directory / "serve.log").read_text()
    assert not any(sign in log for sign in ("Traceback", "never awaited", "error")), log
    assert processes_in(directory) == []
