"""Opening the audit log of a process."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.database.connection import Database
from app.events.archive.reader import Archives
from app.events.stream.opening import running_in_background
from app.services.audit.appender import AuditAppender
from app.services.audit.chain import Head
from app.services.audit.head_notes import HeadNotes
from app.services.audit.queries import AuditQueries
from app.services.audit.verification import AuditVerifier, Verification


@dataclass(frozen=True)
class AuditLog:
    """The audit log as routers use it."""

    queries: AuditQueries
    verifier: AuditVerifier
    appender: AuditAppender

    async def verify(self, noted: Sequence[Head]) -> Verification:
        """Verify the log, also against the last head that this process has appended."""
        seen = self.appender.head
        return await self.verifier.verify([*noted, seen] if seen is not None else noted)


@asynccontextmanager
async def appending_audit_entries(database: Database) -> AsyncGenerator[AuditAppender]:
    """Run an appender while the context lasts, and once more at its end, for changes made during shutdown."""
    appender = AuditAppender(database)
    async with running_in_background(appender.run(), "audit log"):
        yield appender
    await appender.append_rest()


@asynccontextmanager
async def open_audit_log(
    appender: AuditAppender, data_dir: Path, archives: Archives, *, is_worker: bool
) -> AsyncGenerator[AuditLog]:
    """Open the audit log to which an appender appends; workers do not record its heads."""
    database = appender.database
    notes = HeadNotes.under(database, data_dir)
    async with AsyncExitStack() as stack:
        if not is_worker:
            await stack.enter_async_context(running_in_background(notes.run(), "audit heads"))
        yield AuditLog(AuditQueries(database), AuditVerifier(database, archives), appender)
