"""`dynamic-agents seed` and `keys`: what changes the database from the command line, also beside a running service."""

from pathlib import Path

from pydantic import ValidationError

from app.errors import StartupError
from app.models.api_key import Role
from app.models.opening import open_database
from app.routers.api_keys import ApiKeyCreate
from app.services.access.api_keys import create_api_key
from app.services.catalog.seeding import SEEDS, insert_missing_seeds
from app.settings import Settings
from app.terminal.progress import run_console


async def seed_database(settings: Settings, folder: Path | None) -> None:
    """Insert the seeds that are missing and say how many.

    Raises:
        StartupError: the database cannot be opened, or a seed file cannot be used.
    """
    async with open_database(settings, share=True) as database:
        count = await insert_missing_seeds(database, folder or SEEDS)
    run_console().print(
        f"Inserted {count.departments} departments, {count.agents} agents, {count.custom_tools} custom tools; "
        "what was there already is as it was."
    )


async def print_new_key(settings: Settings, name: str, role: str) -> None:
    """Make a key and print it; nobody can read it again.

    Raises:
        StartupError: no key can have the name, or the database cannot be opened.
    """
    try:
        ApiKeyCreate(name=name, role=Role(role))
    except ValidationError as error:
        raise StartupError(f"--name: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
    async with open_database(settings, share=True):
        _, key = await create_api_key(name, Role(role))
    run_console().print(key, soft_wrap=True)
