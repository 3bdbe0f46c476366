"""A running sandbox for the tests of this folder, and a way to call it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Protocol

import pytest
from pydantic import JsonValue

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox

CONTEXT: dict[str, JsonValue] = {"executionId": "exec_1", "agentId": "a-1", "department": "story", "project": "p"}


class Call(Protocol):
    """Calls a tool and gives its output."""

    async def __call__(self, code: str, value: JsonValue = None) -> JsonValue: ...


class Fail(Protocol):
    """Calls a tool that must fail and gives the failure."""

    async def __call__(self, code: str, value: JsonValue = None) -> ToolFailed: ...


@pytest.fixture(scope="session")
async def sandbox() -> AsyncGenerator[ToolSandbox]:
    """Patient: no tool here times out on a busy machine."""
    async with running(ToolSandbox(timeout_seconds=10, memory_mb=64)) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def call(sandbox: ToolSandbox) -> Call:
    async def call(code: str, value: JsonValue = None) -> JsonValue:
        return (await sandbox.run(ToolInvocation(code, value, CONTEXT))).output

    return call


@pytest.fixture(scope="session")
def fail(sandbox: ToolSandbox) -> Fail:
    async def fail(code: str, value: JsonValue = None) -> ToolFailed:
        return await failure_of(sandbox, code, value)

    return fail


@contextlib.asynccontextmanager
async def running(sandbox: ToolSandbox) -> AsyncGenerator[ToolSandbox]:
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.close()


async def failure_of(sandbox: ToolSandbox, code: str, value: JsonValue = None) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await sandbox.run(ToolInvocation(code, value, CONTEXT))
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event tells of, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what other processes do sets no event here
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def is_there(pid: int) -> bool:
    """Whether a process exists, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


def resident_bytes(pid: int) -> int:
    """The memory of a process; 0 once it has exited."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
