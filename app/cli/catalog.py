"""`dynamic-agents seed` and `keys`: commands that change the database, even while the service runs."""

import getpass
import os
from pathlib import Path

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from app.cli.progress import counted, plain
from app.database.audit_marks import Actor
from app.database.connection import Database
from app.database.opening import open_database
from app.errors import AppError, StartupError
from app.kit.paging import PageRequest
from app.kit.validation_words import message_of
from app.models.api_key import ApiKey, Role
from app.routers.api_keys import ApiKeyCreate
from app.server.console import run_console
from app.services.access.admin_key import load_admin_key
from app.services.access.api_keys import create_api_key, delete_api_key, list_api_keys
from app.services.audit.appender import AuditAppender
from app.services.catalog.loader import parsed
from app.services.catalog.seeds.files import SEEDS
from app.services.catalog.seeds.rules import SeedRules
from app.services.catalog.seeds.upserts import Outcome, upsert_seeds
from app.services.catalog.tool_checker import ToolChecker
from app.services.llm.model_info.model_names import KnownModels
from app.services.llm.model_info.model_table import load_model_table
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import Settings

KEYS_A_PAGE = 200


def command_line() -> Actor:
    """Return the actor recorded for a command's changes: the user who runs it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = f"uid {os.getuid()}"
    return Actor("command-line", name)


async def seed_database(settings: Settings, folder: Path | None) -> bool:
    """Insert missing seeds, update documents that differ from their seed, and return whether all were accepted.

    Seeds are first checked against the API's rules. If one breaks a rule, every problem is printed with its file and
    line, and nothing is stored.

    Raises:
        StartupError: the database cannot be opened, or a seed file cannot be used.
    """
    console = run_console()
    async with open_database(settings, share=True) as database:
        if problems := await problems_with_seeds(settings, database, folder or SEEDS):
            for problem in problems:
                console.print(Text(plain(problem)), soft_wrap=True)
            console.print(f"{counted(len(problems), 'problem')}; nothing was stored.")
            return False
        report = await upsert_seeds(database, folder or SEEDS, command_line())
        await AuditAppender(database).append_rest()
    for outcome in Outcome:
        count = report.count(outcome)
        console.print(
            f"{outcome.capitalize()} {counted(count.departments, 'department')}, {counted(count.agents, 'agent')}, "
            f"{counted(count.custom_tools, 'custom tool')}."
        )
    for refusal in report.refused:
        console.print(Text(f"Refused and left unchanged: {plain(refusal)}"), soft_wrap=True)
    return not report.refused


async def print_keys(settings: Settings) -> None:
    """Print the id, role, creation time, projects and name of every API key, never the key itself.

    Raises:
        StartupError: the database cannot be opened.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "role", "created", "projects", "name"):
        table.add_column(heading, no_wrap=heading in ("id", "role", "created"))
    async with open_database(settings, share=True) as database:
        cursor = None
        while True:
            page = await list_api_keys(database, PageRequest(KEYS_A_PAGE, "createdAt", cursor))
            for raw in page.raws:
                key = parsed(ApiKey, raw)
                if key is None:
                    continue  # `parsed` logs it
                projects = "all" if key.allowed_projects is None else ", ".join(sorted(key.allowed_projects)) or "none"
                created = f"{key.created_at:%Y-%m-%d %H:%M}"
                table.add_row(str(key.id), key.role, created, Text(plain(projects)), Text(plain(key.name)))
            cursor = page.next_cursor
            if cursor is None:
                break
    console = run_console()
    console.print(table)
    where = f"embedded in {settings.data_dir}" if settings.embedded else "MONGODB_URI"
    console.print(Text(f"{counted(table.row_count, 'key')} in the database {database.name} ({where}).", style="dim"))
    if load_admin_key(settings).text:
        console.print(Text("The bootstrap admin key is not listed because it is not stored.", style="dim"))


async def revoke_key(settings: Settings, key_id: str) -> None:
    """Revoke an API key.

    Raises:
        StartupError: the key does not exist, it is the last admin key, or the database cannot be opened.
    """
    async with open_database(settings, share=True) as database:
        try:
            await delete_api_key(
                database, command_line(), key_id, has_bootstrap_key=bool(load_admin_key(settings).text)
            )
        except AppError as error:
            raise StartupError(str(error)) from None
        await AuditAppender(database).append_rest()
    run_console().print("Revoked. Every process rejects the key within five seconds.")


async def problems_with_seeds(settings: Settings, database: Database, folder: Path) -> list[str]:
    """Return the problems for which the API would reject a folder's seeds.

    Raises:
        StartupError: a file is not a seed file, or the sandbox for the seeds' tools cannot start.
    """
    sandbox = ToolSandbox(timeout_seconds=settings.tool_timeout_seconds, memory_mb=settings.tool_memory_mb, workers=1)
    await sandbox.start()
    try:
        models = KnownModels(frozenset({*settings.allowed_models, *load_model_table(settings).names}))
        return await SeedRules(models, ToolChecker(sandbox)).problems(database, folder)
    finally:
        await sandbox.close()


async def print_new_key(settings: Settings, name: str, role: str, projects: list[str] | None) -> None:
    """Create a key, for all projects or for some, and print it; it cannot be read again.

    Raises:
        StartupError: the name or a project is invalid, or the database cannot be opened.
    """
    try:
        ApiKeyCreate(name=name, role=Role(role), projects=projects)
    except ValidationError as error:
        problem = dict(error.errors()[0])
        option = "--project" if error.errors()[0]["loc"][0] == "projects" else "--name"
        raise StartupError(f"{option}: {message_of(problem)}.") from None
    async with open_database(settings, share=True) as database:
        _, key = await create_api_key(database, command_line(), name, Role(role), projects)
        await AuditAppender(database).append_rest()
    run_console().print(key, soft_wrap=True)
