"""The checks of `dynamic-agents doctor` on archives: backlog, disk space, interrupted work, and damage."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.cli.progress import counted
from app.database.connection import Database
from app.events.archive.reader import Archives
from app.kit.times import iso_milliseconds
from app.services.retention.due_trees import cutoff_before
from app.services.retention.survey import Survey, count_claims, last_pass, problem_with, sample_archives, survey
from app.settings import Settings

Check = tuple[bool | None, str]
"""Whether the check passed (`None` for a note), and the finding in words."""
MOST_SURVEYED = 1000
MOST_VERIFIED = 20
LATE = timedelta(hours=2)
"""A pass runs every hour; after this long, it is overdue."""
LEAST_FREE_BYTES = 1024**3


async def examine_retention(settings: Settings, database: Database) -> AsyncGenerator[Check]:
    """Check that old runs are archived, and that archives can be written and read."""
    archives = Archives.under(settings.data_dir)
    if settings.execution_retention_days is None:
        yield None, "EXECUTION_RETENTION_DAYS is not set: runs stay in the database"
    else:
        cutoff = await cutoff_before(database, settings.execution_retention_days)
        yield await examine_backlog(database, await survey(database, cutoff, MOST_SURVEYED))
        yield await asyncio.to_thread(examine_directory, archives.directory)
    _, is_working = await last_pass(database)
    claims = await count_claims(database)
    if claims and not is_working:
        yield None, f"{counted(claims, 'archive')} of an interrupted export or deletion: the next pass cleans up"
    async for check in examine_archives(database, archives):
        yield check


async def examine_backlog(database: Database, found: Survey) -> Check:
    """Check that a pass runs every hour while runs are due."""
    ended, is_working = await last_pass(database)
    more = "at least " if found.trees + found.obstacles.total() >= MOST_SURVEYED else ""
    due = f"{more}{counted(found.trees, 'run')} to archive, {found.obstacles.total():,} left for a reason"
    if is_working:
        return True, f"{due}; a pass is running"
    when = f"the last pass ended at {iso_milliseconds(ended)}" if ended else "no pass has ended yet"
    is_late = ended is None or datetime.now(UTC) - ended > LATE
    if found.trees and is_late:
        return False, f"{due}; {when}. Look for archive-write-failed in the log of the service, or start it."
    return True, f"{due}; {when}"


def examine_directory(directory: Path) -> Check:
    """Check that archives can be written, and that there is room for them."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return False, f"{directory} cannot be written ({error.strerror or type(error).__name__}): nothing is archived"
    room = f"{free / LEAST_FREE_BYTES:,.1f} GiB are free in {directory}"
    if free < LEAST_FREE_BYTES:
        return False, f"{room}: nothing is archived once the disk is full. Free some space, or move DATA_DIR."
    return True, room


async def examine_archives(database: Database, archives: Archives) -> AsyncGenerator[Check]:
    """Verify a sample of the archives."""
    verified = 0
    damaged: list[str] = []
    async for archive in sample_archives(database, archives, MOST_VERIFIED):
        verified += 1
        if problem := await problem_with(archive):
            damaged.append(f"{archive.month}/{problem}")
    if damaged:
        advice = "Restore them from a backup of DATA_DIR/archive; until then, requests for their events get 410."
        yield False, f"{len(damaged)} of {counted(verified, 'checked archive')} damaged: {'; '.join(damaged)}. {advice}"
    elif verified:
        yield True, f"{counted(verified, 'archive')} verified"
