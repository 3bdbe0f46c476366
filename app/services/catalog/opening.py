"""Opening the loader of definitions of a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from app.database.connection import Database
from app.services.catalog.live_reload import LiveReload
from app.services.catalog.loader import DefinitionLoader
from app.services.tools.mcp.tools import McpTools
from app.settings import Settings


@asynccontextmanager
async def open_loader(settings: Settings, database: Database, mcp: McpTools) -> AsyncGenerator[DefinitionLoader]:
    """Loads departments, agents and tools for runs; an edit by any process applies to the next run."""
    loader = DefinitionLoader(database, ttl_seconds=settings.agent_cache_ttl_seconds, mcp=mcp)
    mcp.on_change(loader.forget_all)
    reload = LiveReload(database, on_edit=loader.forget_all)
    await reload.start()
    try:
        yield loader
    finally:
        await reload.stop()
