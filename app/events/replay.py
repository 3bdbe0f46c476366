"""Reads of stored events that the majority of the database holds, in order and page by page.

A reader never skips an event: within a tree it stops at the first missing number, because two documents of the tree
are read at slightly different times. The cost of a page does not depend on the number of events: the query names the
page's numbers and reads only the documents that hold some of them.
"""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from app.database.collections import collection_of
from app.database.connection import Database
from app.database.expressions import array_in
from app.errors import InvalidInput, NotFound
from app.events.archive.reader import Archives, TreeArchive
from app.events.stored_numbers import last_seq_of
from app.events.types import Frame
from app.kit.json_limits import MAX_INTEGER
from app.kit.json_values import JsonObject, clean_json
from app.kit.times import iso_milliseconds
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.execution_events import ExecutionEventPage

PAGE_ROWS = 500
PAGE_BYTES = 1024 * 1024
BATCH_ROWS = 100
"""How many rows are decoded at a time, so that the event loop is never held up for long."""
FOREIGN_TYPE = re.compile(r"[a-z0-9_-]{1,64}")
"""The event types of other programs that are shown: those that fit on one line of any protocol."""
NOT_CHECKED = dict.fromkeys(("events", "runState", "params", "output"), 0)
"""Large fields of another program's execution, which are shown unchecked."""
HEAD_FIELDS = dict.fromkeys(
    ("executionId", "rootExecutionId", "status", "lastSeq", "pagesFrom", "project", "archivedAt", "archive"), 1
)


class ExecutionNotFound(NotFound):
    """No execution has this id, or the caller may not see it."""

    code = "execution-not-found"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"There is no execution {execution_id[:100]!r}.")


class SeqOutOfRange(InvalidInput):
    """The client asks to resume beyond the last event: it refers to another run or another database."""

    code = "seq-out-of-range"

    def __init__(self, after: int, last_seq: int) -> None:
        super().__init__(f"There is no event {after} to continue from: the last one is {last_seq}.")


@dataclass(frozen=True)
class StreamHead:
    """The scope of an event stream: the complete tree for a root, its own events for a child.

    `last_seq` is the last number stored when it was read.
    """

    execution_id: str
    root_id: str
    status: ExecutionStatus
    last_seq: int
    project: str | None
    is_foreign: bool
    has_pages: bool = False
    archives: Archives | None = field(default=None, repr=False)
    """The archives of this process, if the reader uses them."""
    archive: TreeArchive | None = field(default=None, repr=False)
    """The archive that has the stream's events, if its tree is archived."""

    @property
    def is_tree(self) -> bool:
        """Whether the stream has all events of a tree, and therefore no gaps."""
        return self.execution_id == self.root_id and not self.is_foreign

    @property
    def covers_tree(self) -> bool:
        """Whether the stream's numbers are consecutive: a tree's, or the positions of another program's rows."""
        return self.execution_id == self.root_id

    def ensure_reached(self, after: int) -> None:
        """Check that the stream has reached a number.

        Raises:
            SeqOutOfRange: it has not; a reader that continued there would miss the events in between.
        """
        if after > self.last_seq:
            raise SeqOutOfRange(after, self.last_seq)


async def read_head(database: Database, execution_id: str, archives: Archives | None = None) -> StreamHead:
    """Return the current state of an execution's stream; its events may be in an archive.

    Raises:
        ExecutionNotFound: no execution has this id.
    """
    collection = collection_of(database, AgentExecution)
    found = await collection.find_one({"executionId": execution_id}, HEAD_FIELDS)
    status = (found or {}).get("status") or ExecutionStatus.PENDING
    if found is None or status not in list(ExecutionStatus):  # a foreign document that this service cannot read
        raise ExecutionNotFound(execution_id)
    root_id = found.get("rootExecutionId")
    last_seq = await last_seq_of(database, found)
    has_pages = found.get("pagesFrom") is not None
    if root_id is None:
        await ensure_readable(database, execution_id)
        last_seq = await count_rows(database, execution_id)
    elif root_id == execution_id:
        fields = {"executionId": 1, "lastSeq": 1, "pagesFrom": 1, "_id": 0}
        async for document in collection.find({"rootExecutionId": root_id}, fields):
            last_seq = max(last_seq, await last_seq_of(database, document))
            has_pages = has_pages or document.get("pagesFrom") is not None
    return StreamHead(
        execution_id=execution_id,
        root_id=root_id or execution_id,
        status=ExecutionStatus(status),
        last_seq=last_seq,
        project=str(found["project"]) if found.get("project") else None,
        is_foreign=root_id is None,
        has_pages=has_pages,
        archives=archives,
        archive=archives.find(found) if archives else None,
    )


async def ensure_readable(database: Database, execution_id: str) -> None:
    """Refuse an execution of another program that this service cannot read.

    Raises:
        ExecutionNotFound: a shared field has a value of another type.
    """
    found = await collection_of(database, AgentExecution).find_one({"executionId": execution_id}, NOT_CHECKED)
    try:
        AgentExecution.model_validate(found)
    except ValidationError:
        raise ExecutionNotFound(execution_id) from None


async def count_rows(database: Database, execution_id: str) -> int:
    """Return the number of event rows of another program's execution; a value that is not an array counts as empty."""
    size = {"$size": array_in("$events")}
    found = await collection_of(database, AgentExecution).find_one(
        {"executionId": execution_id}, {"_id": 0, "rows": size}
    )
    return found["rows"] if found else 0


async def read_events(database: Database, head: StreamHead, after: int, limit: int = PAGE_ROWS) -> list[JsonObject]:
    """Return the stored events of a stream that follow number `after`, at most `limit`, in order and without a gap."""
    return [event async for event in stored_events(database, head, after, limit)]


async def read_frames(database: Database, head: StreamHead, after: int, limit: int = PAGE_ROWS) -> list[Frame]:
    """Return the same events as frames, byte for byte as they were sent live, at most about a megabyte."""
    frames: list[Frame] = []
    size = 0
    async for event in stored_events(database, head, after, limit):
        frames.append(Frame(event))
        size += len(frames[-1].data)
        if size >= PAGE_BYTES:
            break
    return frames


async def stored_events(database: Database, head: StreamHead, after: int, limit: int) -> AsyncGenerator[JsonObject]:
    """Yield the events of a stream after a number, up to the first gap."""
    if head.is_foreign:
        for event in await read_foreign_events(database, head, after, limit):
            yield event
        return
    found_some = False
    if head.archive is None:
        async for event in database_events(database, head, after, limit):
            found_some = True
            yield event
        if found_some or after >= head.last_seq:
            return
    archive = head.archive or await find_archive(database, head)
    if archive is not None:
        async for event in archived_events(archive, head, after, limit):
            yield event


async def find_archive(database: Database, head: StreamHead) -> TreeArchive | None:
    """Return the archive of a tree that was archived after the head was read, `None` if it was not."""
    if head.archives is None or head.is_foreign:
        return None
    fields = {"rootExecutionId": 1, "archivedAt": 1, "archive": 1}
    found = await collection_of(database, AgentExecution).find_one({"executionId": head.execution_id}, fields)
    return head.archives.find(found) if found else None


async def archived_events(archive: TreeArchive, head: StreamHead, after: int, limit: int) -> AsyncGenerator[JsonObject]:
    """Yield the events of a stream from its archive, up to the first gap."""
    of = None if head.is_tree else head.execution_id
    async for _, event in archive.events(after, limit, of):
        if head.is_tree and event["seq"] != after + 1:
            return
        after = int(event["seq"])
        yield checked_event(event, head)


async def database_events(database: Database, head: StreamHead, after: int, limit: int) -> AsyncGenerator[JsonObject]:
    """Yield the events of a stream from the database, up to the first gap."""
    pipeline = tree_range(head, after, after + limit) if head.is_tree else own_range(head, after, limit)
    executions = collection_of(database, AgentExecution)
    async with await executions.aggregate(pipeline, batchSize=BATCH_ROWS) as found:
        async for event in found:
            if head.is_tree and event["seq"] != after + 1:
                return
            after = int(event["seq"])
            yield checked_event(event, head)


def tree_range(
    head: StreamHead, after: int, until: int, shape: object = "$rows.event", seq: str = "seq"
) -> list[JsonObject]:
    """Return the pipeline for a tree's events after number `after` up to `until`, in order, projected to a shape."""
    rows = rows_between(after, until, shape)
    documents: JsonObject = {"rootExecutionId": head.root_id, "lastSeq": {"$gt": after}}
    if not head.has_pages:
        return [{"$match": documents}, *rows, {"$sort": {seq: 1}}]
    documents["pagesFrom"] = {"$not": {"$lte": after + 1}}
    pages = {"rootExecutionId": head.root_id, "lastSeq": {"$gt": after}, "firstSeq": {"$lte": until}}
    return [{"$match": documents}, *rows, with_pages([{"$match": pages}, *rows]), {"$sort": {seq: 1}}]


def own_range(head: StreamHead, after: int, limit: int) -> list[JsonObject]:
    """Return the first `limit` events of one execution after a number; the earliest are in its document."""
    rows = rows_between(after, None)
    pipeline: list[JsonObject] = [{"$match": {"executionId": head.execution_id, "lastSeq": {"$gt": after}}}, *rows]
    if head.has_pages:
        pages = {"executionId": head.execution_id, "lastSeq": {"$gt": after}}
        pipeline.append(with_pages([{"$match": pages}, {"$sort": {"firstSeq": 1}}, *rows, {"$limit": limit}]))
    return [*pipeline, {"$sort": {"seq": 1}}, {"$limit": limit}]


def rows_between(after: int, until: int | None, shape: object = "$rows.event") -> list[JsonObject]:
    """Return the stages that extract a range of numbered events from documents; other programs' rows have no number."""
    seq = "$$this.event.seq"
    bounds: list[JsonObject] = [{"$gt": [seq, after]}, {"$lte": [seq, MAX_INTEGER if until is None else until]}]
    wanted = {"$filter": {"input": array_in("$events"), "cond": {"$and": [{"$isNumber": seq}, *bounds]}}}
    return [{"$project": {"executionId": 1, "rows": wanted}}, {"$unwind": "$rows"}, {"$replaceWith": shape}]


def with_pages(pipeline: list[JsonObject]) -> JsonObject:
    """Return the stage that adds the events that a pipeline finds on pages."""
    return {"$unionWith": {"coll": ExecutionEventPage.get_collection_name(), "pipeline": pipeline}}


def checked_event(event: JsonObject, head: StreamHead) -> JsonObject:
    """Return a stored event, with a type and an execution id that fit into the frames of every protocol."""
    kind, execution_id = event.get("type"), event.get("executionId")
    if isinstance(kind, str) and FOREIGN_TYPE.fullmatch(kind) and isinstance(execution_id, str):
        return event
    owner = execution_id if isinstance(execution_id, str) else head.execution_id
    return {**clean_json(event), "type": shown_type(kind), "executionId": owner}


def shown_type(kind: object) -> str:
    """Return an event's type, or `unknown` if it would not fit on one line of every protocol."""
    return kind if isinstance(kind, str) and FOREIGN_TYPE.fullmatch(kind) else "unknown"


async def read_foreign_events(database: Database, head: StreamHead, after: int, limit: int) -> list[JsonObject]:
    """Return rows that another program stored, numbered by position; their dates may be BSON dates or strings."""
    found = await collection_of(database, AgentExecution).find_one(
        {"executionId": head.execution_id}, {"_id": 0, "events": {"$slice": [after, limit]}}
    )
    rows = (found or {}).get("events")
    if not isinstance(rows, list):
        return []
    return [foreign_event(row, place, head.execution_id) for place, row in enumerate(rows, start=after + 1)]


def foreign_event(row: Any, place: int, execution_id: str) -> JsonObject:  # noqa: ANN401 - any stored value
    """Return another program's row in the form of an event."""
    stored: Any = row.get("event") if isinstance(row, dict) else row
    event: JsonObject = clean_json(stored) if isinstance(stored, dict) else {"value": clean_json(stored)}
    timestamp = stored.get("timestamp") if isinstance(stored, dict) else None
    when = iso_milliseconds(timestamp) if isinstance(timestamp, datetime) else clean_json(timestamp)
    head: JsonObject = {"type": shown_type(str(event.get("type", ""))), "seq": place, "executionId": execution_id}
    head |= {"rootExecutionId": execution_id, "timestamp": when}
    return head | {name: value for name, value in event.items() if name not in head}


def frames_of(events: list[JsonObject]) -> list[Frame]:
    """Return the frames of stored events, byte for byte as they were sent live."""
    return [Frame(event) for event in events]
