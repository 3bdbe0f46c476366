"""Operations on existing executions: cancel, retry, delete."""

from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import structlog
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from app.database.audit_marks import add_audit_marks, audit_mark
from app.database.collections import collection_of
from app.database.connection import Database
from app.database.etags import check_tag
from app.database.natural_keys import find_agent_id, find_slug
from app.database.transactions import in_transaction
from app.errors import AppError
from app.events.archive.claims import claim_removal, remove_claimed
from app.events.archive.errors import ExecutionArchived
from app.events.marked_trees import TreeUnhashed, hash_marked_trees, refuse_unhashed
from app.events.outbox import Outbox
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, RunOptions
from app.models.approval import Approval
from app.models.audit import AuditAction
from app.models.execution_events import ArchivedCalls, EventPayload, ExecutionEventPage, SentPrompt
from app.services.access.api_keys import Caller
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import AgentNotFound, DepartmentNotFound
from app.services.runs.accept.idempotency import idempotency_of
from app.services.runs.accept.starter import AcceptedRun, RunStarter, started_by
from app.services.runs.engine.leases import UNFINISHED
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.queries.execution_shapes import ExecutionRead, execution_etag
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.work.conversations import ExecutionUnfinished

RetryFrom = Literal["checkpoint", "start"]
ETAG_FIELDS = {"executionId": 1, "updatedAt": 1, "legalHold": 1}
ARCHIVE_FIELDS = {"executionId": 1, "archivedAt": 1, "archive": 1}
TREE_DOCUMENTS = (AgentExecution, ExecutionEventPage, EventPayload, SentPrompt, ArchivedCalls, Approval)

log = structlog.get_logger(__name__)
DELETE_ATTEMPTS = 5


class ExecutionAlreadyFinished(AppError):
    """The execution has ended and cannot be cancelled."""

    code = "execution-already-finished"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, status: ExecutionStatus) -> None:
        super().__init__(f"Execution {execution_id} is already {status.value}.")


class ExecutionNotFailed(AppError):
    """Only failed and cancelled executions can be retried."""

    code = "execution-not-failed"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, status: ExecutionStatus) -> None:
        super().__init__(
            f"Execution {execution_id} is {status.value}: only failed and cancelled executions can be retried."
        )


class ExecutionNotRoot(AppError):
    """The operation works on complete run trees only."""

    code = "execution-not-root"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, root_id: str, what: str) -> None:
        super().__init__(f"Execution {execution_id} is a part of the run {root_id}: {what} that one.")


class ExecutionHeld(AppError):
    """The run is under a legal hold."""

    code = "execution-held"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution {execution_id} is under a legal hold: an admin must release it first.")


class ExecutionForeign(AppError):
    """Another program created the execution; this service shows it but never runs it."""

    code = "execution-foreign"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Execution {execution_id} was created by another program, and only that program can run or stop it."
        )


@dataclass(frozen=True)
class ExecutionControl:
    """Acts on executions that the caller may see."""

    database: Database
    executions: ExecutionQueries
    engine: RunEngine
    starter: RunStarter
    outbox: Outbox

    async def cancel(self, execution_id: str, caller: Caller) -> ExecutionRead:
        """Cancel the run tree of an unfinished execution; returns the execution.

        If the run ends at the same moment, either the cancel or the end succeeds, never both. Cancelling again returns
        the same response.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            ExecutionAlreadyFinished: the execution has ended.
            ExecutionForeign: another program runs it.
        """
        execution = await self.executions.find_visible(execution_id, caller)
        if not execution.is_ours:
            raise ExecutionForeign(execution_id)
        if execution.status.is_terminal:
            raise ExecutionAlreadyFinished(execution_id, execution.status)
        detail = {"executionId": execution_id} if execution_id != execution.root_id else {}
        mark = audit_mark(AuditAction.EXECUTION_CANCEL, caller.actor, execution.root_id, detail)
        cancelled = await self.engine.cancel(execution.root_id, mark)
        found = await self.executions.get_execution(execution_id, caller)
        if not cancelled and found.status in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED):
            raise ExecutionAlreadyFinished(execution_id, found.status)
        return found

    async def retry(self, execution_id: str, origin: RetryFrom, caller: Caller, key: str | None) -> AcceptedRun:
        """Retry a failed or cancelled run as a new execution, from its last stored step or from its start.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            ExecutionForeign, ExecutionNotRoot, ExecutionUnfinished, ExecutionNotFailed, ExecutionArchived: it cannot be
                retried.
            AgentNotFound, AgentInactive, AgentWithoutDepartment: its agent cannot run.
            DepartmentNotFound, DepartmentInactive, DepartmentWithoutHead: its department cannot.
            ModelNotConfigured: its model has no usable entry.
        """
        record = idempotency_of(key, caller.id, f"retry/{execution_id}", {"from": origin}) if key is not None else None
        if made := await self.starter.find_made(record):
            return made
        failed = await self.executions.find_visible(execution_id, caller)
        self._refuse_part(failed, "retry")
        if failed.archived_at is not None:
            raise ExecutionArchived(execution_id, "start a new run instead")
        if not failed.status.is_terminal:
            raise ExecutionUnfinished(execution_id, "retry it when it has")
        if failed.status is ExecutionStatus.COMPLETED:
            raise ExecutionNotFailed(execution_id, failed.status)
        agent = await self._agent_of(failed)
        model = self.starter.first_model(failed.kind, (failed.options and failed.options.model) or agent.model)
        self.starter.models.check(model)
        project = str(failed.project) if failed.project else None
        await self.starter.check_budgets(agent, project, started_by(caller).api_key, model, failed.prompt)
        await self.starter.admit(caller)
        again = AgentExecution.new_root(
            agent=agent.id,
            department=agent.department.id,
            kind=failed.kind,
            project=failed.project,
            episode=failed.episode,
            conversation_id=failed.conversation_id,
            prompt=failed.prompt,
            params=failed.params,
            options=retry_options(failed, origin),
            started_by=started_by(caller),
            previous_execution_id=failed.previous_execution_id,
            retry_of=execution_id,
            from_checkpoint=origin == "checkpoint",
            idempotency=record,
        )
        return await self.starter.store(again, agent)

    async def delete(self, execution_id: str, caller: Caller, if_match: str | None = None) -> None:
        """Delete a finished run with all its executions, events, payloads and archive.

        Statistics and usage keep counting it.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            ExecutionNotRoot: it is a part of a run, whose events would have a gap without it.
            EditedMeanwhile: it is no longer the version that `if_match` names.
            ExecutionUnfinished: it is still running.
            ExecutionHeld: it is under a legal hold.
        """
        execution = await self.executions.find_visible(execution_id, caller)
        check_tag(execution_etag(execution), if_match)
        if execution.legal_hold:
            raise ExecutionHeld(execution_id)
        if execution.is_ours:
            self._refuse_part(execution, "delete")
        mark = audit_mark(AuditAction.EXECUTION_DELETE, caller.actor, execution_id, {"status": execution.status.value})

        async def delete_tree(session: AsyncClientSession) -> None:
            await refuse_unhashed(self.database, execution_id, session)
            executions = collection_of(self.database, AgentExecution)
            await self._check_still(execution_id, if_match, session)
            ended = {"executionId": execution_id, "status": {"$nin": UNFINISHED}, "legalHold": {"$ne": True}}
            deleted = await executions.find_one_and_delete(ended, ARCHIVE_FIELDS, session=session)
            if deleted is None:
                raise ExecutionUnfinished(execution_id, "cancel it, or wait until it has ended, before you delete it")
            for document in TREE_DOCUMENTS:
                members = collection_of(self.database, document)
                await members.delete_many({"rootExecutionId": execution_id}, session=session)
            await claim_removal(self.database, deleted, session)
            await add_audit_marks(self.database, [mark], session)

        for _ in range(DELETE_ATTEMPTS):
            if execution.is_ours:
                await self.outbox.settle_tree(execution_id)
                await hash_marked_trees(self.database, execution_id)
            with suppress(TreeUnhashed):  # it was reviewed meanwhile, and the review's entry needs its events too
                await in_transaction(self.database, delete_tree)
                await self._remove_archive(execution_id)
                return
        raise ExecutionUnfinished(execution_id, "it is being reviewed right now; try again")

    async def hold(
        self, execution_id: str, *, held: bool | None, caller: Caller, if_match: str | None = None
    ) -> ExecutionRead:
        """Put a run under a legal hold, or release it; `None` changes nothing. Returns the execution.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            ExecutionForeign, ExecutionNotRoot: it is not a run of this service.
            EditedMeanwhile: it is no longer the version that `if_match` names.
        """
        execution = await self.executions.find_visible(execution_id, caller)
        self._refuse_part(execution, "hold")
        check_tag(execution_etag(execution), if_match)
        if held is None:
            return await self.executions.get_execution(execution_id, caller)
        change = {"$set": {"legalHold": True}} if held else {"$unset": {"legalHold": ""}}
        before = {"executionId": execution_id, "legalHold": None if held else True}
        mark = audit_mark(AuditAction.EXECUTION_HOLD, caller.actor, execution_id, {"legalHold": held})

        async def store_hold(session: AsyncClientSession) -> None:
            await self._check_still(execution_id, if_match, session)
            stored = await collection_of(self.database, AgentExecution).update_one(before, change, session=session)
            if stored.modified_count:
                await add_audit_marks(self.database, [mark], session)

        await in_transaction(self.database, store_hold)
        return await self.executions.get_execution(execution_id, caller)

    async def _check_still(self, execution_id: str, if_match: str | None, session: AsyncClientSession) -> None:
        """Check in the transaction of a write that the execution has not changed since it was read."""
        if if_match is not None:
            found = await collection_of(self.database, AgentExecution).find_one(
                {"executionId": execution_id}, ETAG_FIELDS, session=session
            )
            check_tag(execution_etag(AgentExecution.model_validate(found)) if found else None, if_match)

    async def _remove_archive(self, execution_id: str) -> None:
        """Remove the archive of a deleted run; the next retention pass repeats any step that fails here."""
        try:
            await remove_claimed(self.database, self.executions.archives, execution_id)
        except (OSError, PyMongoError) as error:
            log.error("archive-not-removed", executionId=execution_id, error=str(error))

    def _refuse_part(self, execution: AgentExecution, what: str) -> None:
        if not execution.is_ours:
            raise ExecutionForeign(execution.execution_id)
        if execution.execution_id != execution.root_id:
            raise ExecutionNotRoot(execution.execution_id, execution.root_id, what)

    async def _agent_of(self, execution: AgentExecution) -> AgentDefinition:
        """Return the agent that would run it now: for a department run or an orchestration, the current head."""
        if execution.kind is not ExecutionKind.AGENT:
            slug = await find_slug(self.database, execution.department)
            if slug is None:
                raise DepartmentNotFound(str(execution.department))
            return (await self.starter.loader.get_team(slug)).head
        agent_id = await find_agent_id(self.database, execution.agent)
        if agent_id is None:
            raise AgentNotFound(str(execution.agent))
        return await self.starter.loader.get_agent(agent_id)


def retry_options(failed: AgentExecution, origin: RetryFrom) -> RunOptions | None:
    """Return the options of a retry; one from the start does not use cached answers."""
    options = failed.options or RunOptions()
    return options.model_copy(update={"cache": False}) if origin == "start" else failed.options
