"""The outbox consumer that records the end of each run tree in the audit log."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from app.database.audit_marks import add_audit_marks, end_mark
from app.database.connection import Database, Raw
from app.events.marked_trees import AUDIT_CONSUMER
from app.events.outbox import ExecutionEnd, field_of, mark_of
from app.kit.json_values import JsonObject
from app.kit.times import utc_now


class AuditEnds:
    """Turns the ends of roots into audit marks, so that the write that ends a run only needs to store an outbox
    mark."""

    name = AUDIT_CONSUMER
    field = field_of(AUDIT_CONSUMER)
    projection: Mapping[str, int] = {"executionId": 1}

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, end: ExecutionEnd) -> JsonObject:
        """Return the mark of an end: the content of its entry, except for the hash of the events."""
        if end.execution.parent_execution_id is not None or not end.execution.is_ours:
            return {}
        return mark_of(self.name, {"status": end.status.value, "lastSeq": end.seq, "at": utc_now()})

    async def apply(self, batch: Sequence[Raw], session: AsyncClientSession) -> None:
        """Store the audit marks of a batch."""
        marks = [mark for ended in batch for mark in marks_of(ended)]
        await add_audit_marks(self._database, marks, session)


def marks_of(ended: Raw) -> list[Raw]:
    """Return the audit marks for the outbox marks of a root; damaged ones are left out."""
    kept: Any = ended["outbox"][AUDIT_CONSUMER]
    found: list[Any] = list(kept.values()) if isinstance(kept, dict) else []
    return [
        end_mark(str(ended["executionId"]), str(one["status"]), one["lastSeq"], one["at"])
        for one in found
        if isinstance(one, dict) and isinstance(one.get("lastSeq"), int) and isinstance(one.get("at"), datetime)
    ]
