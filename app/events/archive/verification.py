"""Verification of archived trees by the id of their root, for those who compare digests."""

from dataclasses import dataclass

from app.database.collections import collection_of
from app.database.connection import Database
from app.events.archive.errors import ArchiveUnreadable
from app.events.archive.reader import Archives
from app.models.agent_execution import AgentExecution

FIELDS = {"rootExecutionId": 1, "archivedAt": 1, "archive": 1}


@dataclass(frozen=True)
class VerifiedArchives:
    """The archives of a database's trees, each read and checked in full when it is asked for."""

    database: Database
    archives: Archives

    async def events_digest(self, root_id: str) -> str:
        """Return the hash of the events in a tree's archive, read from its file.

        Raises:
            ArchiveUnreadable: the tree has no archive, or it is missing or damaged; the message says how.
            PyMongoError: the database is unavailable.
        """
        found = await collection_of(self.database, AgentExecution).find_one({"executionId": root_id}, FIELDS)
        archive = self.archives.find(found) if found else None
        if archive is None:
            raise ArchiveUnreadable(root_id, "the database names no archive of it")
        return (await archive.verify()).events_sha256
