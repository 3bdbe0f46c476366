"""Copies of the chain's head outside the database, which show later whether the chain was truncated.

A line of `DATA_DIR/audit-heads` is the time, a space, and the head in the form that `?head=` takes: `SEQ:HASH`. The
head also goes to the service's log, which usually leaves the machine.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import structlog
from pymongo.errors import PyMongoError

from app.database.connection import Database
from app.kit.times import iso_milliseconds, utc_now
from app.services.audit.appender import read_head
from app.services.audit.chain import Head, parse_head

FILE_NAME = "audit-heads"
NOTE_EVERY_SECONDS = 3600.0
FIRST_NOTE_SECONDS = 10.0
"""By then, the entries of the startup are appended."""
TAIL_BYTES = 4096

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HeadNotes:
    """Records the head of the chain in a file and in the log."""

    database: Database
    path: Path

    @classmethod
    def under(cls, database: Database, data_dir: Path) -> "HeadNotes":
        """Return the notes in a `DATA_DIR`."""
        return cls(database, data_dir / FILE_NAME)

    async def run(self) -> None:
        """Record the head soon, and then every hour, until cancelled."""
        await asyncio.sleep(FIRST_NOTE_SECONDS)
        while True:
            await self.note()
            await asyncio.sleep(NOTE_EVERY_SECONDS)

    async def note(self) -> None:
        """Record the head; log an unavailable database or file."""
        try:
            head = await read_head(self.database)
        except PyMongoError as error:
            log.warning("audit-head-unread", error=type(error).__name__)
            return
        log.info("audit-head-noted", seq=head.seq, hash=head.hash)
        try:
            await asyncio.to_thread(append_line, self.path, head)
        except OSError as error:
            log.warning("audit-head-not-written", path=str(self.path), error=type(error).__name__)


def append_line(path: Path, head: Head) -> None:
    """Append a head to the file, unless it is that of the last line.

    Raises:
        OSError: the file cannot be written.
    """
    if last_noted(path) == head:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"{iso_milliseconds(utc_now())} {head}\n".encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def last_noted(path: Path) -> Head | None:
    """Return the head in the last line of the file; `None` without one, or if the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - TAIL_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    heads = (parse_head(line.rpartition(" ")[2]) for line in reversed(lines))
    return next((head for head in heads if head is not None), None)
