"""`dynamic-agents archive`: archives old runs now, or says what would be archived."""

import re
from collections.abc import Mapping
from datetime import datetime

from app.cli.progress import counted
from app.database.connection import Database
from app.database.opening import open_database
from app.errors import StartupError
from app.events.archive.reader import Archives
from app.kit.times import iso_milliseconds
from app.server.console import run_console
from app.services.audit.appender import AuditAppender
from app.services.retention.archiver import ArchiveNotVerified
from app.services.retention.due_trees import Obstacle, cutoff_before
from app.services.retention.passes import RetentionPass
from app.services.retention.survey import survey
from app.settings import Settings

AGE = re.compile(r"(\d{1,5}(?:\.\d{1,6})?)([dh])")
HOURS_A_DAY = 24
REASONS = {
    Obstacle.HELD: "under a legal hold",
    Obstacle.RUNNING: "not ended",
    Obstacle.REVIEW: "sent back for revision and not reviewed again yet",
    Obstacle.UNCOUNTED: "not counted in statistics yet",
    Obstacle.CONTINUED: "continued by a run that has not ended",
    Obstacle.DAMAGED: "stored in a form that an archive cannot hold",
}


def days_of(older_than: str | None, settings: Settings) -> float:
    """Return an age in days, such as `90d` or `12h`; by default `EXECUTION_RETENTION_DAYS`.

    Raises:
        StartupError: the age is invalid, or it is missing.
    """
    if older_than is None:
        if settings.execution_retention_days is None:
            raise StartupError(
                "Pass the age of the runs to archive, such as --older-than 90d, or set EXECUTION_RETENTION_DAYS."
            )
        return settings.execution_retention_days
    match = AGE.fullmatch(older_than.strip())
    if match is None:
        raise StartupError("--older-than must be a number of days or hours, such as 90d or 12h.")
    return float(match[1]) / (HOURS_A_DAY if match[2] == "h" else 1)


async def archive_old_runs(settings: Settings, older_than: str | None, *, dry_run: bool) -> None:
    """Archive the runs that ended before an age, or print what would be archived.

    Raises:
        StartupError: the age is invalid, another process archives, or an archive cannot be written.
    """
    days = days_of(older_than, settings)
    async with open_database(settings, share=True) as database:
        cutoff = await cutoff_before(database, days)
        if dry_run:
            await print_survey(database, cutoff)
        else:
            await print_pass(database, Archives.under(settings.data_dir), cutoff)
            await AuditAppender(database).append_rest()


async def print_survey(database: Database, cutoff: datetime) -> None:
    """Print what an archive pass would do."""
    found = await survey(database, cutoff)
    since = f", the oldest ended at {iso_milliseconds(found.oldest)}" if found.oldest else ""
    runs = counted(found.trees, "run")
    parts = f"{counted(found.executions, 'execution')}, {counted(found.events, 'event')}{since}"
    run_console().print(f"{runs} would be archived ({parts}).", soft_wrap=True, markup=False)
    print_obstacles(found.obstacles)


async def print_pass(database: Database, archives: Archives, cutoff: datetime) -> None:
    """Run a pass and print what it did.

    Raises:
        StartupError: another process archives, or an archive cannot be written or verified.
    """
    try:
        done = await RetentionPass(database, archives, share=1.0).run(cutoff)
    except OSError as error:
        path = error.filename or archives.directory
        reason = error.strerror or type(error).__name__
        raise StartupError(f"Cannot write {path}: {reason}. Nothing was removed without an archive.") from None
    except ArchiveNotVerified as error:
        raise StartupError(f"An archive did not read back as it was written: {error}. Its run was kept.") from None
    if done is None:
        raise StartupError("Another process is archiving right now; try again when it has finished.")
    run_console().print(
        f"{counted(done.trees, 'run')} archived ({counted(done.events, 'event')}, {done.compressed_bytes:,} bytes) "
        f"in {archives.directory}.",
        soft_wrap=True,
        markup=False,
    )
    print_obstacles(done.obstacles)


def print_obstacles(obstacles: Mapping[Obstacle, int]) -> None:
    """Print how many runs are left, and why."""
    for obstacle, count in sorted(obstacles.items()):
        run_console().print(f"{counted(count, 'run')} left: {REASONS[obstacle]}.", soft_wrap=True, markup=False)
