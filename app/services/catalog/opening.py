"""Opening the catalog of a process: its database with seeds, its tools, the loader and the editor."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

from app.database.connection import Database
from app.database.opening import open_database
from app.services.catalog.builtin_tools import store_builtin_tools
from app.services.catalog.editor import CatalogEditor
from app.services.catalog.live_reload import LiveReload
from app.services.catalog.loader import DefinitionLoader
from app.services.catalog.seeds.insertion import insert_missing_seeds
from app.services.catalog.tool_checker import ToolChecker
from app.services.llm.model_info.model_names import KnownModels
from app.services.tools.mcp.tools import McpTools
from app.services.tools.opening import open_toolbox
from app.services.tools.sandbox.opening import open_sandbox
from app.services.tools.toolbox import Toolbox
from app.settings import Settings


@asynccontextmanager
async def open_seeded_database(settings: Settings, *, is_worker: bool) -> AsyncGenerator[Database]:
    """Open the database, and insert missing seeds if the settings ask for them."""
    async with open_database(settings, share=is_worker) as database:
        if settings.seeds_on_start:
            await insert_missing_seeds(database)
        yield database


@asynccontextmanager
async def open_stored_tools(settings: Settings, database: Database) -> AsyncGenerator[Toolbox]:
    """Open everything that runs tools; the catalog gets entries for those that are functions of this process.

    Raises:
        StartupError: the sandbox, a module of `TOOL_MODULES` or the file of MCP servers is unusable.
    """
    async with open_sandbox(settings) as sandbox, open_toolbox(settings, sandbox) as toolbox:
        await store_builtin_tools(database, toolbox.builtins)
        yield toolbox


@asynccontextmanager
async def open_loader(settings: Settings, database: Database, mcp: McpTools) -> AsyncGenerator[DefinitionLoader]:
    """Load departments, agents and tools for runs; an edit by any process applies to the next run."""
    loader = DefinitionLoader(database, ttl_seconds=settings.agent_cache_ttl_seconds, mcp=mcp)
    mcp.on_change(loader.forget_all)
    reload = LiveReload(database, on_edit=loader.forget_all)
    await reload.start()
    try:
        yield loader
    finally:
        await reload.stop()


def make_editor(
    settings: Settings, database: Database, toolbox: Toolbox, loader: DefinitionLoader, models: Iterable[str]
) -> CatalogEditor:
    """Create the editor, which accepts the allowed and configured models; the next run uses its changes."""
    known_models = KnownModels(frozenset({*settings.allowed_models, *models}))
    checker = ToolChecker(toolbox.sandbox)
    return CatalogEditor(database, checker, known_models, toolbox.mcp, on_write=loader.forget_all)
