"""A running sandbox for the tests of this folder, and a way to call it."""

from collections.abc import AsyncGenerator

import pytest
from pydantic import JsonValue

from app.services.tools.outcomes import ToolFailed
from app.services.tools.sandbox.tool_sandbox import ToolInvocation, ToolSandbox
from tests.fixtures.sandboxes import CONTEXT, Call, Fail, failure_of, running


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
