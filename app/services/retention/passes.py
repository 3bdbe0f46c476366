"""Passes over the trees that are old enough: one process at a time, slowly enough that runs do not notice."""

import asyncio
import errno
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

import structlog
from bson import ObjectId
from pymongo.errors import PyMongoError

from app.database.connection import Database
from app.database.process_lease import ProcessLease
from app.events.archive.reader import Archives
from app.events.stream.opening import running_in_background
from app.kit.concurrency import end_tasks
from app.services.retention.archive_file import ArchiveBusy, locked
from app.services.retention.archiver import Archived, ArchiveNotVerified, TreeArchiver, is_anything_left
from app.services.retention.due_trees import DueTree, continued_ids, cutoff_before, due_trees
from app.settings import Settings

JOB = "retention"
EVERY_SECONDS = 3600.0
LOOK_AGAIN_SECONDS = 60.0
"""How often a process checks whether another one is still archiving, or whether an hour has passed."""
BACKGROUND_SHARE = 0.25
"""The share of time in which a background pass works; the rest is left to runs and readers."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RetentionPass:
    """One pass at a time over all processes; `share` is the share of time in which it works."""

    database: Database
    archives: Archives
    share: float = BACKGROUND_SHARE

    async def run(self, cutoff: datetime | None, *, pause_seconds: float = 0.0) -> Archived | None:
        """Archive every tree that ended before a time; `None` if another process does, or did within the pause.

        Without a time, it only finishes and cleans up the work of processes that died.

        Raises:
            ArchiveBusy: a process with another database writes into the same directory.
            ArchiveNotVerified: an archive did not read back as it was written.
            OSError: the directory cannot be written.
            PyMongoError: the database is unavailable.
        """
        lease = ProcessLease(self.database, JOB, f"{ObjectId()}")
        if not await lease.take(pause_seconds=pause_seconds):
            return None
        renewing = asyncio.create_task(keep(lease), name="retention lease")
        try:
            with locked(self.archives.directory):
                return await self._archive_all(lease, cutoff)
        finally:
            await end_tasks(renewing)
            await lease.release()

    async def _archive_all(self, lease: ProcessLease, cutoff: datetime | None) -> Archived:
        archiver, done = TreeArchiver(self.database, self.archives, lease.owner), Archived()
        if left := await archiver.recover():
            log.info("archives-recovered", trees=left)
        if cutoff is None:
            return done
        async with aclosing(due_trees(self.database, cutoff)) as steps:
            async for trees in steps:
                if not await lease.take():
                    log.warning("retention-lease-lost")
                    break
                await self._archive(archiver, trees, done)
        return done

    async def _archive(self, archiver: TreeArchiver, trees: list[DueTree], done: Archived) -> None:
        """Archive some trees, with a pause after each."""
        continued = await continued_ids(self.database)
        for tree in trees:
            began = perf_counter()
            await archiver.archive(tree, done, continued)
            await asyncio.sleep((perf_counter() - began) * (1 - self.share) / self.share)


async def keep(lease: ProcessLease) -> None:
    """Renew a lease until cancelled."""
    while True:
        await asyncio.sleep(lease.seconds / 4)
        try:
            await lease.take()
        except PyMongoError as error:
            log.warning("retention-lease-renewal-failed", error=type(error).__name__)


async def keep_archiving(retention: RetentionPass, days: float | None) -> None:
    """Archive at startup and then every hour, until cancelled; failures are logged and retried.

    Without `days`, only what an interrupted pass or deletion has left is finished and cleaned up.
    """
    pause_seconds = 0.0
    while True:
        if await archive_once(retention, days, pause_seconds):
            pause_seconds = EVERY_SECONDS
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def archive_once(retention: RetentionPass, days: float | None, pause_seconds: float) -> bool:
    """Run one pass and log its result; return whether this process ran it, even if it failed."""
    try:
        if days is None and not await is_anything_left(retention.database):
            return True
        cutoff = None if days is None else await cutoff_before(retention.database, days)
        done = await retention.run(cutoff, pause_seconds=pause_seconds)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        log.error("archive-write-failed", error=name, path=str(error.filename or retention.archives.directory))
    except ArchiveNotVerified as error:
        log.error("archive-not-verified", problem=str(error))
    except ArchiveBusy as error:
        log.warning("archive-busy", problem=str(error))
    except PyMongoError as error:
        log.warning("archive-interrupted", error=type(error).__name__)
    except Exception:
        log.exception("archive-crashed")
    else:
        if done is None:
            return False
        passed = {str(obstacle): count for obstacle, count in done.obstacles.items()}
        log.info("trees-archived", trees=done.trees, events=done.events, bytes=done.compressed_bytes, **passed)
    return True


@asynccontextmanager
async def open_retention(settings: Settings, database: Database, *, is_worker: bool) -> AsyncGenerator[Archives]:
    """Open the archives in `DATA_DIR`, and archive in the background if the settings ask for it.

    Only processes that serve the API archive: they are the ones that read the archives.
    """
    archives = Archives.under(settings.data_dir)
    if is_worker:
        yield archives
        return
    work = keep_archiving(RetentionPass(database, archives), settings.execution_retention_days)
    async with running_in_background(work, "retention"):
        yield archives
