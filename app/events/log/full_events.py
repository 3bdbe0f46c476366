"""Reads of full events: a single one, and all events of a tree for the process that takes it over."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import orjson

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.expressions import array_in
from app.errors import NotFound
from app.events.archive.reader import Archives, TreeArchive
from app.events.log.log_rows import ROW_BYTES, Page, Stored
from app.events.replay import BATCH_ROWS, PAGE_ROWS, StreamHead, find_archive, read_events, read_head, tree_range
from app.events.stored_numbers import MAX_SEQ
from app.events.types import Frame
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution
from app.models.execution_events import EventPayload


class EventNotFound(NotFound):
    """The execution's stream has no event with this number, or its stored payload has been removed."""

    code = "event-not-found"

    def __init__(self, execution_id: str, seq: int) -> None:
        super().__init__(f"Execution {execution_id} has no event {seq}.")


async def read_full_event(database: Database, head: StreamHead, seq: int) -> bytes:
    """Return the full JSON of one event, even if the stream shows it truncated.

    Raises:
        EventNotFound: the stream has no event with this number.
    """
    found = await read_events(database, head, seq - 1, 1)
    if not found or found[0]["seq"] != seq:
        raise EventNotFound(head.execution_id, seq)
    if head.is_foreign or not is_cut(found[0]):
        return Frame(found[0]).data
    if head.archive is None and (text := (await full_texts(database, found)).get(seq)) is not None:
        return text
    archive = head.archive or await find_archive(database, head)
    text = await archive.payload(seq, found[0]["sha256"]) if archive else None
    if text is None:
        raise EventNotFound(head.execution_id, seq)
    return text


async def read_stored(database: Database, root_id: str) -> dict[str, Stored]:
    """Return where each document of a tree ends, for a log that continues it; new rows begin a new page."""
    events = array_in("$events")
    pipeline: list[JsonObject] = [
        {"$match": {"rootExecutionId": root_id}},
        {
            "$project": {
                "executionId": 1,
                "pagesFrom": 1,
                "rows": {"$size": events},
                "bytes": {"$bsonSize": {"e": events}},
            }
        },
    ]
    found = await collection_of(database, AgentExecution).aggregate(pipeline)
    return {
        one["executionId"]: Stored(
            one["_id"],
            rows=one["rows"],
            size_bytes=one["bytes"] + one["rows"] * ROW_BYTES,
            pages_from=one.get("pagesFrom"),
            page=None if one.get("pagesFrom") is None else Page(),
        )
        async for one in found
    }


async def tree_events(
    database: Database, root_id: str, archives: Archives | None = None
) -> AsyncGenerator[tuple[str, JsonObject]]:
    """Yield every stored event of a tree without a writer, in full and in order, with its execution's id.

    Raises:
        ExecutionNotFound: the root does not exist.
        ArchiveUnreadable: the tree is archived, and its archive is missing or damaged.
    """
    async for rows, archive in rows_and_archive(database, root_id, archives):
        cut = [row["event"] for row in rows if is_cut(row["event"])]
        texts = await (archived_texts(archive, cut) if archive else full_texts(database, cut))
        for row in rows:
            text = texts.get(row["event"]["seq"])
            yield row["of"], row["event"] if text is None else orjson.loads(text)


async def stored_tree_events(
    database: Database, root_id: str, archives: Archives | None = None
) -> AsyncGenerator[JsonObject]:
    """Yield every stored event of a tree without a writer, in order, oversized ones truncated as `/events` shows them.

    Raises:
        ExecutionNotFound: the root does not exist.
        ArchiveUnreadable: the tree is archived, and its archive is missing or damaged.
    """
    async for rows in tree_rows(database, root_id, archives):
        for row in rows:
            yield row["event"]


async def tree_rows(database: Database, root_id: str, archives: Archives | None = None) -> AsyncGenerator[list[Raw]]:
    """Yield the numbered rows of a tree in order, a page at a time, each `{"of": execution id, "event"}`.

    They come from the tree's archive if it is archived.
    """
    async for rows, _ in rows_and_archive(database, root_id, archives):
        yield rows


async def rows_and_archive(
    database: Database, root_id: str, archives: Archives | None
) -> AsyncGenerator[tuple[list[Raw], TreeArchive | None]]:
    """Yield the rows of a tree, and the archive that they come from."""
    head = replace(await read_head(database, root_id, archives), is_foreign=False)
    after = 0
    if head.archive is None:
        async for rows in database_rows(database, head):
            after = int(rows[-1]["event"]["seq"])
            yield rows, None
    if after < head.last_seq and (archive := head.archive or await find_archive(database, head)):
        async for rows in archived_rows(archive, after):
            yield rows, archive


async def archived_rows(archive: TreeArchive, after: int) -> AsyncGenerator[list[Raw]]:
    """Yield the rows of an archived tree that follow a number."""
    rows: list[Raw] = []
    async for of, event in archive.events(after, MAX_SEQ):
        rows.append({"of": of, "event": event})
        if len(rows) >= PAGE_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


async def database_rows(database: Database, head: StreamHead) -> AsyncGenerator[list[Raw]]:
    """Yield the rows of a tree that are in the database."""
    executions = collection_of(database, AgentExecution)
    shape = {"of": "$executionId", "event": "$rows.event"}
    after = 0
    while after < head.last_seq:
        until = after + PAGE_ROWS
        pipeline = tree_range(head, after, until, shape, "event.seq")
        async with await executions.aggregate(pipeline, batchSize=BATCH_ROWS) as found:
            rows: list[Raw] = await found.to_list()
        if not rows:  # a gap: go to the first event behind it, however far that is
            beyond = [*tree_range(head, until, MAX_SEQ, shape, "event.seq"), {"$limit": 1}]
            async with await executions.aggregate(beyond) as found:
                rows = await found.to_list()
            if not rows:
                return
            after = int(rows[0]["event"]["seq"]) - 1
            continue
        after = until
        yield rows


async def archived_texts(archive: TreeArchive, cut: Sequence[JsonObject]) -> dict[int, bytes]:
    """Return the full JSON of truncated events of an archived tree by number; missing ones are left out."""
    found = {event["seq"]: await archive.payload(event["seq"], event["sha256"]) for event in cut}
    return {seq: text for seq, text in found.items() if text is not None}


async def tree_payload_parts(database: Database, root_id: str, seq: int, sha256: str) -> AsyncGenerator[bytes]:
    """Yield the parts of the full JSON of a truncated event."""
    selector = {"rootExecutionId": root_id, "seq": seq, "sha256": sha256}
    async for part in database[EventPayload.get_collection_name()].find(selector).sort("part", 1).batch_size(2):
        yield part["text"] if isinstance(part["text"], bytes) else b""


def is_cut(event: JsonObject) -> bool:
    """Return whether an event stored by this service is the truncated form of a larger one."""
    return event.get("truncated") is True and "sha256" in event


async def full_texts(database: Database, cut: Sequence[JsonObject]) -> dict[int, bytes]:
    """Return the full JSON of truncated events of one tree by number; incomplete ones are left out."""
    if not cut:
        return {}
    wanted = {event["seq"]: event for event in cut}
    selector = {"rootExecutionId": cut[0]["rootExecutionId"], "seq": {"$in": list(wanted)}}
    parts = collection_of(database, EventPayload).find(selector).sort([("seq", 1), ("part", 1)])
    texts: defaultdict[int, bytearray] = defaultdict(bytearray)
    async for part in parts:
        if part["sha256"] == wanted[part["seq"]]["sha256"]:
            texts[part["seq"]] += part["text"]
    return {seq: bytes(text) for seq, text in texts.items() if len(text) == wanted[seq]["size"]}
