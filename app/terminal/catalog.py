"""`dynamic-agents seed` and `keys`: what changes the database from the command line, also beside a running service."""

from pathlib import Path

from pydantic import ValidationError
from rich.text import Text

from app.errors import StartupError
from app.models.api_key import Role
from app.models.opening import open_database
from app.routers.api_keys import ApiKeyCreate
from app.services.access.api_keys import create_api_key
from app.services.catalog.seed_files import SEEDS
from app.services.catalog.seed_upserts import Outcome, upsert_seeds
from app.settings import Settings
from app.terminal.progress import plain, run_console


async def seed_database(settings: Settings, folder: Path | None) -> bool:
    """Insert the seeds that are missing, change what differs from its seed, say how many; whether none was refused.

    Raises:
        StartupError: the database cannot be opened, or a seed file cannot be used.
    """
    async with open_database(settings, share=True) as database:
        report = await upsert_seeds(database, folder or SEEDS)
    console = run_console()
    for outcome in Outcome:
        count = report.count(outcome)
        console.print(
            f"{outcome.capitalize()} {count.departments} departments, {count.agents} agents, "
            f"{count.custom_tools} custom tools."
        )
    for refusal in report.refused:
        console.print(Text(f"Refused, and left as it is: {plain(refusal)}"), soft_wrap=True)
    return not report.refused


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
