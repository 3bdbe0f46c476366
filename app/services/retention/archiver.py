"""Archiving trees: export, verify, mark, trim. After a crash at any step, the next pass continues or cleans up."""

import asyncio
from dataclasses import dataclass, field

import structlog

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.archive.claims import CLAIMS
from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.form import LineKind, data_name, manifest_name
from app.events.archive.reader import Archives, remove_files
from app.failpoints import failpoint
from app.models.agent_execution import AgentExecution
from app.services.retention.archive_file import temporary
from app.services.retention.due_trees import DueTree, Obstacle, obstacle_of, read_states
from app.services.retention.tree_export import ExportedTree, NotExportable, TreeExport, month_of
from app.services.retention.tree_trim import TreeTrim

log = structlog.get_logger(__name__)


class ArchiveNotVerified(Exception):
    """An archive that was just written does not match when it is read back; nothing was trimmed."""


@dataclass
class Archived:
    """The results of a pass."""

    trees: int = 0
    events: int = 0
    compressed_bytes: int = 0
    obstacles: dict[Obstacle, int] = field(default_factory=dict[Obstacle, int])

    def passed_over(self, obstacle: Obstacle) -> None:
        """Count a tree that was not archived."""
        self.obstacles[obstacle] = self.obstacles.get(obstacle, 0) + 1


@dataclass(frozen=True)
class TreeArchiver:
    """Archives trees one at a time; the caller holds the lease and the lock of the directory."""

    database: Database
    archives: Archives
    owner: str
    """The name of this process among those that archive."""

    async def archive(self, tree: DueTree, done: Archived, continued: frozenset[str] = frozenset()) -> None:
        """Archive a tree, or count what keeps it from being archived; `continued` are the ids that other runs need.

        Raises:
            ArchiveNotVerified: the archive that was written is damaged.
            OSError: a file cannot be written.
            PyMongoError: the database is unavailable.
        """
        states = await read_states(self.database, tree.root_id)
        obstacle = obstacle_of(tree.root_id, states)
        if obstacle is None and any(one["executionId"] in continued for one in states):
            obstacle = Obstacle.CONTINUED
        if obstacle is not None:
            done.passed_over(obstacle)
            return
        claims, claim = self.database[CLAIMS], {"_id": tree.root_id, "owner": self.owner}
        month = {"month": month_of(tree.completed_at), "owner": self.owner}
        await claims.update_one({"_id": tree.root_id}, {"$set": month}, upsert=True)
        try:
            exported = await TreeExport(self.database, self.archives, tree).write()
        except NotExportable as error:
            log.warning("tree-not-archivable", executionId=tree.root_id, reason=str(error))
            await claims.delete_one(claim)
            done.passed_over(Obstacle.DAMAGED)
            return
        failpoint("after-archive-export")
        await self._verify(exported)
        failpoint("after-archive-verified")
        trim = TreeTrim(self.database, self.owner)
        if not await trim.mark(tree.root_id, exported, states):
            await exported.archive.remove()
            await claims.delete_one(claim)
            done.passed_over(Obstacle.RUNNING)
            return
        failpoint("after-archive-marked")
        await trim.trim(tree.root_id)
        failpoint("after-archive-trimmed")
        await claims.delete_one(claim)
        done.trees += 1
        done.events += exported.manifest.counts[LineKind.EVENT]
        done.compressed_bytes += exported.manifest.size_bytes

    async def _verify(self, exported: ExportedTree) -> None:
        try:
            found = await exported.archive.verify()
        except ArchiveUnreadable as error:
            raise ArchiveNotVerified(error.problem) from error
        if found != exported.manifest:
            raise ArchiveNotVerified(f"{exported.archive.manifest_path.name} has changed")

    async def recover(self) -> int:
        """Finish or clean up the work of processes that died, and return the number of trees.

        Trees that are marked are trimmed. Files of trees that are not marked are removed; so are those of trees that
        were deleted meanwhile.
        """
        executions = collection_of(self.database, AgentExecution)
        trim, claims = TreeTrim(self.database, self.owner), self.database[CLAIMS]
        left = 0
        async for raw in executions.find({"untrimmed": True}, {"executionId": 1}):
            await trim.trim(raw["executionId"])
            left += 1
        async for claim in claims.find():
            left += 1
            await claims.update_one({"_id": claim["_id"]}, {"$set": {"owner": self.owner}})  # the old owner cannot mark
            marked = {"executionId": claim["_id"], "archivedAt": {"$exists": True}}
            is_marked = await executions.find_one(marked, {"_id": 1}) is not None
            await asyncio.to_thread(self._clean_up, claim["_id"], claim["month"], is_marked=is_marked)
            await claims.delete_one({"_id": claim["_id"], "owner": self.owner})
        return left

    def _clean_up(self, root_id: str, month: str, *, is_marked: bool) -> None:
        folder = self.archives.directory / month
        files = [folder / data_name(root_id), folder / manifest_name(root_id)]
        remove_files([temporary(path) for path in files] + ([] if is_marked else files))


async def is_anything_left(database: Database) -> bool:
    """Return whether an interrupted pass or deletion has left something to finish or to clean up."""
    untrimmed = await collection_of(database, AgentExecution).find_one({"untrimmed": True}, {"_id": 1})
    return untrimmed is not None or await database[CLAIMS].find_one({}, {"_id": 1}) is not None
