"""The rows of a log before they are stored: the document or page of each, and the writes that store them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from bson import ObjectId
from pymongo import InsertOne, UpdateMany, UpdateOne

from app.events.stream.bus import Ending
from app.events.types import Frame
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.base import new_row_id

MAX_DOCUMENT_ROWS = 2000
MAX_DOCUMENT_EVENT_BYTES = 1024 * 1024
MAX_PAGE_ROWS = 500
MAX_PAGE_BYTES = 512 * 1024
MAX_GROUP_ROWS = 500
MAX_GROUP_BYTES = 2 * 1024 * 1024
PART_BYTES = 4 * 1024 * 1024
ROW_BYTES = 64
"""The size of a row beyond its event: its id and its key in the array."""
Update = tuple[JsonObject, JsonObject]


@dataclass(frozen=True, slots=True)
class SideWrite:
    """A write to another document, made in one transaction with the event that it belongs to."""

    collection: str
    operation: InsertOne[JsonObject] | UpdateOne | UpdateMany


@dataclass(slots=True)
class Page:
    """The page that takes an execution's next rows."""

    id: ObjectId = field(default_factory=ObjectId)
    rows: int = 0
    size_bytes: int = 0

    def has_room(self, size_bytes: int) -> bool:
        """Return whether another row fits; an empty page takes any row."""
        return self.rows == 0 or (self.rows < MAX_PAGE_ROWS and self.size_bytes + size_bytes <= MAX_PAGE_BYTES)


@dataclass(slots=True)
class Stored:
    """One document of the tree: its rows, and the page that takes further rows, from number `pages_from` on."""

    id: ObjectId
    rows: int = 0
    size_bytes: int = 0
    pages_from: int | None = None
    page: Page | None = None

    def place(self, seq: int, size_bytes: int) -> ObjectId | None:
        """Reserve room for one more row; return the page for it, or `None` if the document takes it."""
        if self.page is None:
            if self.rows < MAX_DOCUMENT_ROWS and self.size_bytes + size_bytes <= MAX_DOCUMENT_EVENT_BYTES:
                self.rows += 1
                self.size_bytes += size_bytes
                return None
            self.page, self.pages_from = Page(), seq
        if not self.page.has_room(size_bytes):
            self.page = Page()
        self.page.rows += 1
        self.page.size_bytes += size_bytes
        return self.page.id


@dataclass(slots=True)
class Row:
    """One numbered event to be stored in its document or on a page, with the changes that belong to it.

    If a payload is oversized, `event` and `frame` are truncated, and `full_text` is the event's full JSON.
    """

    document: ObjectId
    page: ObjectId | None
    event: JsonObject
    frame: Frame
    size_bytes: int
    """The size in MongoDB, where `[1,1]` is five times as large as in JSON."""
    changes: Mapping[str, Any]
    ending: Ending | None
    completes: bool
    """Whether it is the last row of its `append`, whose rows are stored together or not at all."""
    full_text: bytes | None = None
    begins_pages: bool = False
    side_writes: tuple[SideWrite, ...] = ()

    @property
    def seq(self) -> int:
        """The event's number."""
        return self.frame.seq


@dataclass(frozen=True, slots=True)
class GroupWrite:
    """The write of a group: payloads first, then guarded updates of documents.

    Pages and side writes are made in one transaction with the updates.
    """

    documents: list[Update]
    pages: list[UpdateOne] = field(default_factory=list[UpdateOne])
    payloads: list[UpdateOne] = field(default_factory=list[UpdateOne])
    side_writes: list[SideWrite] = field(default_factory=list[SideWrite])


def bounded_groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Yield the rows in order, in groups that fit one write; the rows of one `append` stay together."""
    group: list[Row] = []
    size = 0
    for row in rows:
        if group and group[-1].completes and (len(group) >= MAX_GROUP_ROWS or size + row.size_bytes > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += row.size_bytes
    if group:
        yield group


def write_of(group: list[Row], fence: int) -> GroupWrite:
    """Return the write of a group.

    Without pages it has one update for each run of consecutive rows of one document, in the order of their numbers: a
    crash between two of them leaves a prefix of the tree's events, never a gap. With pages it has one update for each
    document, to be made in one transaction with the pages.
    """
    payloads = [part for row in group if row.full_text is not None for part in payload_parts(row, row.full_text)]
    side_writes = [write for row in group for write in row.side_writes]
    if all(row.page is None for row in group):
        neighbors = [list(rows) for _, rows in groupby(group, key=lambda row: row.document)]
        updates = [document_update(rows, fence) for rows in neighbors]
        return GroupWrite(updates, payloads=payloads, side_writes=side_writes)
    documents: dict[ObjectId, list[Row]] = {}
    pages: dict[ObjectId, list[Row]] = {}
    for row in group:
        documents.setdefault(row.document, []).append(row)
        if row.page is not None:
            pages.setdefault(row.page, []).append(row)
    return GroupWrite(
        [document_update(rows, fence) for rows in documents.values()],
        [page_update(rows) for rows in pages.values()],
        payloads,
        side_writes,
    )


def document_update(rows: list[Row], fence: int) -> Update:
    """Return the compare-and-set of one document, which matches only for its owner and before these rows are stored.

    A tree with a damaged `lastSeq` can still be ended.
    """
    changes: dict[str, Any] = {"updatedAt": utc_now()}
    for row in rows:
        changes |= row.changes
        if row.begins_pages:
            changes["pagesFrom"] = row.seq
    update: JsonObject = {"$set": {**changes, "lastSeq": rows[-1].seq}}
    if pushed := [stored_row(row) for row in rows if row.page is None]:
        update["$push"] = {"events": {"$each": pushed}}
    return {"_id": rows[0].document, "fence": fence, "lastSeq": {"$not": {"$gte": rows[0].seq}}}, update


def page_update(rows: list[Row]) -> UpdateOne:
    """Return the update that adds rows to their page; the first of them creates the page.

    The selector has the root, by which the collection can be sharded.
    """
    first = rows[0]
    created = {
        "executionId": first.event["executionId"],
        "firstSeq": first.seq,
        "createdAt": utc_now(),
    }
    return UpdateOne(
        {"_id": first.page, "rootExecutionId": first.event["rootExecutionId"]},
        {
            "$push": {"events": {"$each": [stored_row(row) for row in rows]}},
            "$set": {"lastSeq": rows[-1].seq},
            "$setOnInsert": created,
        },
        upsert=True,
    )


def stored_row(row: Row) -> JsonObject:
    """Return a row in the form that a CMS stores."""
    return {"event": row.event, "id": new_row_id()}


def payload_parts(row: Row, full_text: bytes) -> Iterator[UpdateOne]:
    """Yield the full text of a truncated event in parts that fit a document; storing them twice changes nothing."""
    root_id, digest = row.event["rootExecutionId"], row.event["sha256"]
    for part, start in enumerate(range(0, len(full_text), PART_BYTES)):
        fields = {
            "seq": row.seq,
            "sha256": digest,
            "part": part,
            "text": full_text[start : start + PART_BYTES],
            "createdAt": utc_now(),
        }
        key = f"{root_id}/{row.seq}/{digest}/{part}"
        yield UpdateOne({"_id": key, "rootExecutionId": root_id}, {"$setOnInsert": fields}, upsert=True)
