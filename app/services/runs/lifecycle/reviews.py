"""Reviews by people, at any time after a run has ended."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.database.audit_marks import TreeRecord, audit_mark, mark_insert
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.natural_keys import find_agent_id, find_agent_ids
from app.errors import AppError, InvalidInput
from app.events.archive.errors import ExecutionArchived
from app.events.log.full_events import read_stored
from app.events.log.log_rows import SideWrite
from app.events.log.tree_log import TreeLog, TreeLost
from app.events.replay import read_head
from app.events.stream.bus import EventBus
from app.events.types import ReviewStatusChanged
from app.kit.schemas import Text
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus, ReviewStatus, RevisionRequest
from app.models.audit import AuditAction
from app.services.access.api_keys import Caller
from app.services.catalog.loader import AgentNotFound, parsed
from app.services.runs.accept.starter import RunStarter, started_by
from app.services.runs.engine.leases import UNFINISHED, WITHOUT_BULK
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.lifecycle.control import ExecutionForeign
from app.services.runs.queries.execution_shapes import ExecutionRead
from app.services.runs.queries.executions import ExecutionQueries
from app.services.runs.work.conversations import ExecutionUnfinished
from app.services.runs.work.revision_request import chain_of, person_review
from app.telemetry import gen_ai
from app.telemetry.tracing import FinishedSpan

MAX_NOTES_CHARACTERS = 20_000
ATTEMPTS = 5


class ReviewCreate(BaseModel):
    """A person's decision on an execution's output."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        strict=True,
        json_schema_extra={"examples": [{"status": "revision-needed", "notes": "Name the keeper, and cut act two."}]},
    )

    status: Literal["approved", "rejected", "revision-needed"]
    """The decision: `approved` or `rejected` ends the review, `revision-needed` sends the work back to its
    agent."""
    notes: Annotated[Text, Field(max_length=MAX_NOTES_CHARACTERS)] | None = None
    """The reviewer's notes. A revision needs them."""

    @model_validator(mode="after")
    def a_revision_has_notes(self) -> "ReviewCreate":
        """Require notes for a revision: they say what to revise."""
        if self.status == ReviewStatus.REVISION_NEEDED and not (self.notes or "").strip():
            raise InvalidInput.of_field("notes", "is required for a revision: say what has to be revised")
        return self


class ExecutionNotRevisable(AppError):
    """The execution has no completed work to revise."""

    code = "execution-not-revisable"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, status: ExecutionStatus, root_status: ExecutionStatus) -> None:
        super().__init__(
            f"Execution {execution_id} is {status.value}, its run {root_status.value}: only completed work, of a run "
            "that was not cancelled, can be sent back."
        )


class ReviewOvertaken(AppError):
    """Concurrent changes of the run kept the review from being stored."""

    code = "review-overtaken"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"The run of execution {execution_id} is being reviewed right now. Try again.")


@dataclass(frozen=True)
class ReviewService:
    """Stores people's reviews of the executions that they may see."""

    database: Database
    bus: EventBus
    executions: ExecutionQueries
    engine: RunEngine
    starter: RunStarter

    async def review(self, execution_id: str, asked: ReviewCreate, caller: Caller) -> ExecutionRead:
        """Store a decision, or start a revision; returns the execution.

        Raises:
            ExecutionNotFound: the execution does not exist, or the caller may not see it.
            ExecutionForeign: another program created it.
            ExecutionUnfinished: its run has not ended.
            ExecutionArchived: its run is archived.
            ExecutionNotRevisable: it has no finished work to revise.
            AgentInactive, DepartmentInactive: an agent that the revision needs cannot run.
        """
        execution = await self.executions.find_visible(execution_id, caller)
        if not execution.is_ours:
            raise ExecutionForeign(execution_id)
        if execution.archived_at is not None:
            raise ExecutionArchived(execution_id, "it can no longer be reviewed")
        if asked.status == ReviewStatus.REVISION_NEEDED:
            await self._send_back(execution, asked.notes or "", caller)
        else:
            await self._note(execution, ReviewStatus(asked.status), asked.notes or "", caller)
        return await self.executions.get_execution(execution_id, caller)

    async def _note(self, execution: AgentExecution, status: ReviewStatus, notes: str, caller: Caller) -> None:
        """Append a decision to the ended tree's log under a new fence; retry after a concurrent review."""
        root_id, execution_id = execution.root_id, execution.execution_id
        for _ in range(ATTEMPTS):
            root = await self.engine.leases.lock_ended(root_id)
            if root is None:
                raise ExecutionUnfinished(execution_id, "review it when its run has ended")
            members = await self._members(root_id)
            head = await read_head(self.database, root_id)
            log = TreeLog(
                database=self.database,
                bus=self.bus,
                root_id=root_id,
                fence=root.fence,
                last_seq=head.last_seq,
                on_lost=lambda: None,
            )
            log.open(await read_stored(self.database, root_id))
            present = next((one for one in members if one.execution_id == execution_id), execution)
            event = ReviewStatusChanged(
                agent_id=await find_agent_id(self.database, execution.agent),
                status=status.value,
                notes=notes,
                reviewer={"kind": "person", "name": caller.name},
                retry_count=present.retry_count,
            )
            changes = {
                "reviewStatus": status.value,
                "reviewNotes": notes,
                "reviewedBy": None,
                "personReview": person_review(started_by(caller), status, notes, utc_now(), present),
            }
            try:
                mark = review_mark(caller, execution, status, TreeRecord(root_id, head.last_seq + 1))
                log.append(execution_id, event, changes=changes, side_writes=[SideWrite(*mark_insert(mark))])
                await log.committed()
                self._record_review(root, execution_id, status)
                return
            except TreeLost:
                continue
            finally:
                await log.close()
        raise ReviewOvertaken(execution_id)

    async def _send_back(self, execution: AgentExecution, notes: str, caller: Caller) -> None:
        """Reopen the tree: the execution is revised, and its ancestors redo their work."""
        members = await self._members(execution.root_id)
        root = next(one for one in members if one.execution_id == execution.root_id)
        present = next(one for one in members if one.execution_id == execution.execution_id)
        if root.status.value in UNFINISHED:
            raise ExecutionUnfinished(execution.execution_id, "review it when its run has ended")
        if present.status is not ExecutionStatus.COMPLETED or root.status is ExecutionStatus.CANCELLED:
            raise ExecutionNotRevisable(execution.execution_id, present.status, root.status)
        await self._check_agents(members)
        await self.starter.admit(caller)
        revision_request = RevisionRequest(
            execution_id=execution.execution_id,
            notes=notes,
            name=caller.name,
            person_review=person_review(started_by(caller), ReviewStatus.REVISION_NEEDED, notes, utc_now(), present),
        )
        chain = [one.execution_id for one in chain_of(members, execution.execution_id)]
        mark = review_mark(caller, execution, ReviewStatus.REVISION_NEEDED)
        if not await self.engine.reopen(root.execution_id, chain, revision_request, mark):
            raise ExecutionUnfinished(execution.execution_id, "review it when its run has ended")
        self._record_review(root, execution.execution_id, ReviewStatus.REVISION_NEEDED)

    def _record_review(self, root: AgentExecution, execution_id: str, status: ReviewStatus) -> None:
        """Record a decision in the trace of the run, with a link to the trace of the reviewer's request."""
        if self.engine.traces.is_on:
            now = utc_now()
            span = FinishedSpan("review", now, now, {gen_ai.REVIEW_STATUS: status.value})
            self.engine.traces.tree(root.execution_id, root.trace).record(execution_id, span)

    async def _members(self, root_id: str) -> list[AgentExecution]:
        found = collection_of(self.database, AgentExecution).find({"rootExecutionId": root_id}, WITHOUT_BULK)
        return [one async for raw in found if (one := parsed(AgentExecution, raw))]

    async def _check_agents(self, members: list[AgentExecution]) -> None:
        """Refuse a revision unless every agent of the tree can run."""
        agents = {member.agent for member in members}
        agent_ids = await find_agent_ids(self.database, agents)
        for agent in agents:
            if agent not in agent_ids:
                raise AgentNotFound(str(agent))
            await self.engine.loader.get_agent(agent_ids[agent])


def review_mark(caller: Caller, execution: AgentExecution, status: ReviewStatus, tree: TreeRecord | None = None) -> Raw:
    """Return the audit mark of a person's review; `tree` names the events, including the review's."""
    detail = {"status": status.value, "rootExecutionId": execution.root_id}
    return audit_mark(AuditAction.EXECUTION_REVIEW, caller.actor, execution.execution_id, detail, tree=tree)
