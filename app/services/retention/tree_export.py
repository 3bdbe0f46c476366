"""The export of one run tree: read from the database in parts, written to its archive in a thread."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.expressions import array_in
from app.events.archive.form import LineKind, Manifest
from app.events.archive.reader import Archives, TreeArchive
from app.events.log.full_events import full_texts, is_cut, tree_rows
from app.events.replay import ExecutionNotFound
from app.events.tree_digest import EventUnreadable
from app.kit.json_limits import JsonObject
from app.models.agent_execution import AgentExecution
from app.models.approval import Approval
from app.models.execution_events import ExecutionEventPage, SentPrompt
from app.services.retention.archive_file import ArchiveWriter
from app.services.retention.due_trees import DueTree

CALL_ROWS = 200
"""The events with ledger rows that one document keeps."""


class NotExportable(Exception):
    """The tree is stored in a form that an archive cannot hold; the message says why."""


@dataclass(frozen=True)
class ExportedTree:
    """A tree whose archive is written, with the ledger rows that stay in the database."""

    archive: TreeArchive
    manifest: Manifest
    calls: list[JsonObject]
    has_pages: bool


def month_of(completed_at: datetime) -> str:
    """Return the month of a time in UTC, which names the directory of an archive."""
    return completed_at.astimezone(UTC).strftime("%Y-%m")


@dataclass
class TreeExport:
    """Writes the archive of one tree."""

    database: Database
    archives: Archives
    tree: DueTree

    async def write(self) -> ExportedTree:
        """Write the archive and return it; nothing is left under temporary names, whatever happens.

        Raises:
            NotExportable: the tree has something that an archive cannot hold.
            OSError: a file cannot be written.
            PyMongoError: the database is unavailable.
        """
        folder = self.archives.directory / month_of(self.tree.completed_at)
        self._writer = await asyncio.to_thread(ArchiveWriter, folder, self.tree.root_id)
        try:
            return await self._write()
        except (TypeError, EventUnreadable, UnicodeDecodeError, ExecutionNotFound) as error:
            raise NotExportable(str(error)[:200]) from error
        finally:
            await asyncio.shield(asyncio.to_thread(self._writer.discard))

    async def _write(self) -> ExportedTree:
        rows, has_pages = await self._write_executions()
        calls, cut = await self._write_events(rows)
        await self._write_payloads(cut)
        await self._write_side_documents()
        writer, last_seq = self._writer, self._writer.hash.last_seq
        manifest, manifest_sha256 = await asyncio.to_thread(writer.finish, self.tree.completed_at, last_seq)
        month = month_of(self.tree.completed_at)
        archive = TreeArchive(self.archives, self.tree.root_id, month, manifest.sha256, manifest_sha256)
        return ExportedTree(archive, manifest, calls, has_pages)

    async def _write_executions(self) -> tuple[int, bool]:
        """Write the documents without their events; return the number of rows in the tree, and whether it has pages."""
        executions = collection_of(self.database, AgentExecution)
        counted = {"rowCount": {"$size": array_in("$events")}}
        members = {"rootExecutionId": self.tree.root_id}
        pipeline = [{"$match": members}, {"$sort": {"_id": 1}}, {"$set": counted}, {"$unset": "events"}]
        rows, has_pages = 0, False
        async with await executions.aggregate(pipeline, batchSize=10) as found:
            async for raw in found:
                rows += raw.pop("rowCount")
                has_pages = has_pages or raw.get("pagesFrom") is not None
                await asyncio.to_thread(self._writer.add_document, LineKind.EXECUTION, raw)
        if has_pages:
            pages = collection_of(self.database, ExecutionEventPage)
            total = {"$group": {"_id": None, "rows": {"$sum": {"$size": array_in("$events")}}}}
            async with await pages.aggregate([{"$match": members}, total]) as found:
                rows += sum([one["rows"] async for one in found])
        return rows, has_pages

    async def _write_events(self, rows: int) -> tuple[list[JsonObject], list[JsonObject]]:
        """Write the events; return the documents for their ledger rows, and the events that are truncated."""
        calls, cut = KeptCalls(self.tree.root_id), list[JsonObject]()
        before = 0.0
        async for page in tree_rows(self.database, self.tree.root_id):
            for row in page:
                seq: float = row["event"]["seq"]  # a whole number, or a double where a CMS has saved the document
                if seq <= before:
                    raise NotExportable(f"two events have the number {seq}")
                before = seq
            await asyncio.to_thread(self._writer.add_events, page)
            calls.add(page)
            cut += [head_of_cut(row["event"]) for row in page if is_cut(row["event"])]
        if self._writer.counts[LineKind.EVENT] != rows:
            raise NotExportable("some rows of its events have no number")
        return calls.documents(), cut

    async def _write_payloads(self, cut: Sequence[JsonObject]) -> None:
        for event in cut:
            text = (await full_texts(self.database, [event])).get(event["seq"])
            if text is not None:
                await asyncio.to_thread(self._writer.add_payload, event["seq"], event["sha256"], text)

    async def _write_side_documents(self) -> None:
        members = {"rootExecutionId": self.tree.root_id}
        async for raw in collection_of(self.database, SentPrompt).find(members).sort("_id").batch_size(10):
            await asyncio.to_thread(self._writer.add_prompt, raw["sha256"], raw["messages"])
        async for raw in collection_of(self.database, Approval).find(members).sort("_id").batch_size(50):
            await asyncio.to_thread(self._writer.add_document, LineKind.APPROVAL, raw)


def head_of_cut(event: JsonObject) -> JsonObject:
    """Return the fields by which the full text of a truncated event is found."""
    return {name: event[name] for name in ("seq", "sha256", "size", "rootExecutionId")}


class KeptCalls:
    """The ledger rows of a tree, in documents of bounded size for each execution."""

    def __init__(self, root_id: str) -> None:
        self._root_id = root_id
        self._open: dict[str, JsonObject] = {}
        self._full: list[JsonObject] = []

    def add(self, rows: Sequence[Raw]) -> None:
        """Keep the ledger rows of some events."""
        for row in rows:
            calls: Any = row["event"].get("calls")
            if not isinstance(calls, list) or not calls:
                continue
            seq, of = row["event"]["seq"], row["of"]
            empty = {"executionId": of, "rootExecutionId": self._root_id, "events": []}
            document = self._open.setdefault(of, empty)
            document["events"].append({"event": {"seq": seq, "calls": calls}})
            document["lastSeq"] = seq
            if len(document["events"]) >= CALL_ROWS:
                self._full.append(self._open.pop(of))

    def documents(self) -> list[JsonObject]:
        """Return the documents."""
        return [*self._full, *self._open.values()]
