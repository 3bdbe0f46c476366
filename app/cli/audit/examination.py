"""The audit log in `dynamic-agents doctor`: marks without an entry, and the end of the chain."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.cli.progress import counted
from app.database.collections import collection_of
from app.database.connection import Database
from app.kit.times import utc_now
from app.models.audit import AuditEntry, AuditMark
from app.services.audit.appender import read_head
from app.services.audit.chain import Head, check_entries, shown_entry
from app.services.audit.head_notes import FILE_NAME, last_noted

BACKLOG_AGE = timedelta(seconds=60)
"""Marks become entries within five seconds while a service runs."""
CHECKED_ENTRIES = 10_000
"""The number of latest entries to check, which takes a second; `audit verify` checks all entries."""


@dataclass(frozen=True)
class AuditFinding:
    """The result of one check of the audit log."""

    ok: bool
    text: str


async def examine_audit(database: Database, data_dir: Path) -> list[AuditFinding]:
    """Check that changes get their entries, and that the latest entries form an unbroken chain.

    Raises:
        PyMongoError: the database is unavailable.
    """
    return [await examine_backlog(database), await examine_chain(database, last_noted(data_dir / FILE_NAME))]


async def examine_backlog(database: Database) -> AuditFinding:
    """Check that no mark has been waiting for long."""
    marks = collection_of(database, AuditMark)
    late = await marks.count_documents({"at": {"$lt": utc_now() - BACKLOG_AGE}})
    if late:
        advice = "Start a service or a worker, or look for audit-append-failed in its log."
        return AuditFinding(False, f"{counted(late, 'change')} waited more than a minute for an audit entry. {advice}")
    return AuditFinding(True, "every change has its entry")


async def examine_chain(database: Database, noted: Head | None) -> AuditFinding:
    """Check the latest entries, and the last head recorded in `DATA_DIR`."""
    entries, head = collection_of(database, AuditEntry), await read_head(database)
    advice = "Run `dynamic-agents audit verify`, and see docs/how-to/prove-what-happened.md."
    start = max(head.seq - CHECKED_ENTRIES, 0)
    raws = await entries.find({"_id": {"$gte": start}}).sort("_id", 1).limit(CHECKED_ENTRIES + 1).to_list()
    shown = [shown_entry(raw) for raw in raws]
    before = Head()
    if start:
        before, shown = Head(start, str(shown[0].get("hash"))), shown[1:]
    end, bad = check_entries(before, shown)
    if bad is not None:
        return AuditFinding(False, f"The log is broken at entry {bad.seq}: {bad.reason}. {advice}")
    if noted is not None and noted.seq > end.seq:
        text = f"The log ends with entry {end.seq}, but {FILE_NAME} in DATA_DIR records entry {noted.seq}."
        return AuditFinding(False, f"{text} {advice}")
    if noted is not None and noted.seq > 0:
        raw = await entries.find_one({"_id": noted.seq}, {"hash": 1})
        if raw is None or raw.get("hash") != noted.hash:
            return AuditFinding(False, f"Entry {noted.seq} differs from {FILE_NAME} in DATA_DIR. {advice}")
    return AuditFinding(True, f"the latest {len(shown)} of {end.seq} entries form an unbroken chain")
