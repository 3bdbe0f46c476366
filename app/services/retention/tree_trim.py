"""The database steps after the archive of a tree is verified: the tree is marked, then trimmed.

Both steps can be repeated. From the mark on, readers use the archive, so if a process dies between the two, only space
is wasted, which the next pass frees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.database.audit_marks import SERVICE, add_audit_marks, audit_mark
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.expressions import number_in
from app.database.transactions import Session, in_transaction
from app.events.archive.claims import CLAIMS
from app.events.marked_trees import TreeUnhashed, hash_marked_trees, refuse_unhashed
from app.models.agent_execution import AgentExecution
from app.models.audit import AuditAction
from app.models.execution_events import ArchivedCalls, EventPayload, ExecutionEventPage, SentPrompt
from app.services.retention.due_trees import have_changed, obstacle_of, read_states
from app.services.retention.tree_export import ExportedTree

SHOWN_CHARACTERS = 500
"""How much of a prompt stays in the database, for lists."""
TRIMMED_COLLECTIONS = (ExecutionEventPage, EventPayload, SentPrompt)
"""The documents of a tree that are removed; ledger rows, approvals and executions stay."""
TRIMMED_FIELDS = ["output", "params", "runState", "pagesFrom"]


@dataclass(frozen=True)
class TreeTrim:
    """Marks and trims archived trees."""

    database: Database
    owner: str

    async def mark(self, root_id: str, exported: ExportedTree, states: Sequence[Raw]) -> bool:
        """Mark a tree as archived if it has not changed since it was read; return whether it was marked.

        The transaction raises the fence on every document of the tree, so a write that began before fails. The audit
        log gets an entry; the hash of the events is in the log by then.
        """
        named = {
            "month": exported.archive.month,
            "sha256": exported.archive.sha256,
            "manifestSha256": exported.archive.manifest_sha256,
        }
        detail = {"month": exported.archive.month, "sha256": exported.archive.sha256}
        entry = audit_mark(AuditAction.EXECUTION_ARCHIVE, SERVICE, root_id, detail)
        members = {"rootExecutionId": root_id}
        changes = {"archivedAt": "$$NOW", "archive": {"$literal": named}, "fence": {"$add": [number_in("$fence"), 1]}}

        async def mark(session: Session) -> bool:
            now = await read_states(self.database, root_id, session)
            claim = {"_id": root_id, "owner": self.owner}
            claimed = await self.database[CLAIMS].update_one(claim, {"$set": {"isMarked": True}}, session=session)
            if claimed.matched_count == 0 or have_changed(states, now) or obstacle_of(root_id, now) is not None:
                return False
            executions = collection_of(self.database, AgentExecution)
            await executions.update_many(members, [{"$set": changes}], session=session)
            await executions.update_one({"executionId": root_id}, {"$set": {"untrimmed": True}}, session=session)
            if exported.calls:
                copies = [dict(one) for one in exported.calls]  # PyMongo adds ids, and the transaction may run again
                await collection_of(self.database, ArchivedCalls).insert_many(copies, session=session)
            await refuse_unhashed(self.database, root_id, session)
            await add_audit_marks(self.database, [entry], session)
            return True

        await hash_marked_trees(self.database, root_id)
        try:
            return await in_transaction(self.database, mark)
        except TreeUnhashed:
            return False

    async def trim(self, root_id: str) -> None:
        """Remove from the database what the archive of a marked tree holds; repeating it changes nothing."""
        members = {"rootExecutionId": root_id}
        for document in TRIMMED_COLLECTIONS:
            await collection_of(self.database, document).delete_many(members)
        executions = collection_of(self.database, AgentExecution)
        prompt = {"$cond": [{"$eq": [{"$type": "$prompt"}, "string"]}, "$prompt", ""]}
        shortened = {"events": [], "prompt": {"$substrCP": [prompt, 0, SHOWN_CHARACTERS]}}
        changes: list[Raw] = [{"$set": shortened}, {"$unset": TRIMMED_FIELDS}]
        await executions.update_many({**members, "executionId": {"$ne": root_id}}, changes)
        finished: list[Raw] = [*changes, {"$unset": "untrimmed"}]
        await executions.update_one({"executionId": root_id, "untrimmed": True}, finished)
