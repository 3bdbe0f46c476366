"""Opening the sandbox of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.services.tools.egress.guard import Egress
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import Settings


@asynccontextmanager
async def open_sandbox(settings: Settings) -> AsyncGenerator[ToolSandbox]:
    """A warm sandbox with the limits of the settings."""
    sandbox = ToolSandbox(
        timeout_seconds=settings.tool_timeout_seconds,
        memory_mb=settings.tool_memory_mb,
        workers=settings.tool_workers,
        egress=Egress.to(settings.tool_egress_allowlist),
    )
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.close()
