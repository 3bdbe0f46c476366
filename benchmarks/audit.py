"""The audit log: appending and verifying 100,000 entries, a part of them ends of runs with their events."""

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bson import ObjectId
from rich.table import Table

from app.cli.running import run
from app.database.audit_marks import Actor, audit_mark, end_mark
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.opening import open_database
from app.events.archive.reader import Archives
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution
from app.models.audit import AuditAction, AuditMark
from app.services.audit.appender import AuditAppender
from app.services.audit.verification import AuditVerifier
from app.settings import Settings
from benchmarks.tables import goal, table_of

ENTRIES, TREES, EVENTS_A_TREE = 100_000, 5_000, 20
GOAL_SECONDS = 60.0
BATCH = 1_000
SOMEONE = Actor("api-key", "benchmark")
CHANGED = {"changed": ["instructionsPrompt", "model", "qualityThreshold"]}


def audit_tables() -> Iterator[Table]:
    """The figures as a table, measured with the garbage collector set as the command sets it."""
    yield run(measure())


async def measure() -> Table:
    """Store marks, append their entries, verify them, and watch the event loop meanwhile."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        settings = Settings(_env_file=None, data_dir=Path(folder))  # pyright: ignore[reportCallIssue] - pydantic-settings' own
        async with open_database(settings) as database:
            await store_marks(database)
            appender, started = AuditAppender(database), time.perf_counter()
            while await appender.append_pending():
                pass
            appended = time.perf_counter() - started
            before, lag = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, LoopLag()
            watching = asyncio.create_task(lag.watch())
            started = time.perf_counter()
            found = await AuditVerifier(database, Archives.under(settings.data_dir)).verify()
            verified = time.perf_counter() - started
            watching.cancel()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found.bad is None, found.bad
    assert (found.checked, found.trees) == (ENTRIES, TREES)
    events = f"{TREES * EVENTS_A_TREE:,} events of {TREES:,} runs"
    table = table_of(f"Audit log, {ENTRIES:,} entries and {events}", "figure", "goal")
    table.add_row("appended", f"{ENTRIES / appended:,.0f} entries/s", "")
    table.add_row("verified", goal(f"{verified:.1f} s", met=verified <= GOAL_SECONDS), f"{GOAL_SECONDS:.0f} s")
    table.add_row("longest pause of the event loop while it was verified", f"{lag.longest * 1000:.0f} ms", "")
    table.add_row("growth of memory while it was verified", f"{grown / 1024:.0f} MiB", "")
    return table


class LoopLag:
    """How long the event loop let a task wait."""

    longest = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.005)
            self.longest = max(self.longest, time.perf_counter() - started - 0.005)


async def store_marks(database: Database) -> None:
    """Store the marks of changes and of ends, and the runs that have ended."""
    marks = collection_of(database, AuditMark)
    for start in range(0, ENTRIES - TREES, BATCH):
        changes = [
            audit_mark(AuditAction.AGENT_UPDATE, SOMEONE, f"agent-{start + number}", CHANGED) for number in range(BATCH)
        ]
        await marks.insert_many(changes)
    for _ in range(0, TREES, BATCH):
        trees = [ended_tree() for _ in range(BATCH)]
        await collection_of(database, AgentExecution).insert_many(trees)
        ends = [end_mark(tree["executionId"], "completed", EVENTS_A_TREE, utc_now()) for tree in trees]
        await marks.insert_many(ends)


def ended_tree() -> Raw:
    """A run of one execution with events of a kilobyte."""
    execution_id = f"exec_{ObjectId()}"
    head = {"executionId": execution_id, "rootExecutionId": execution_id}
    rows = [
        {
            "event": {"type": "agent-response", "seq": seq, **head, "content": "word " * 180, "costUsd": seq / 7},
            "id": seq,
        }
        for seq in range(1, EVENTS_A_TREE + 1)
    ]
    return {**head, "status": "completed", "lastSeq": EVENTS_A_TREE, "events": rows, "fence": 1}
