"""Recovery of stored run trees: they are read back into memory, and ended if they cannot be read."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import structlog
from pydantic import ValidationError
from pymongo.errors import OperationFailure

from app.database.audit_marks import end_mark, mark_insert
from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.natural_keys import find_agent_ids
from app.errors import AppError
from app.events.log.full_events import read_stored, tree_events
from app.events.log.log_rows import MAX_DOCUMENT_ROWS, Page, SideWrite, Stored
from app.events.log.tree_log import TreeLog
from app.events.stored_numbers import plausible
from app.events.types import AgentCancelled, AgentError
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.agent_execution import TERMINAL_STATUSES, AgentExecution, ExecutionStatus, StopReason
from app.models.execution_events import ExecutionEventPage
from app.services.catalog.loader import first_problem
from app.services.runs.approvals.writes import tree_cancel_writes
from app.services.runs.work.conversations import PreviousExecutionMissing, read_history
from app.services.runs.work.execution_run import error_detail
from app.services.runs.work.run_tree import RunTree
from app.services.runs.work.state import ExecutionState

log = structlog.get_logger(__name__)

MAX_PROBLEM = 200
DAMAGED = (LookupError, TypeError, ValueError, AttributeError)
"""The errors that reading raises if a stored value does not have the expected shape."""
SEQS_OF_ROWS = {"$cond": [{"$isArray": "$events.event.seq"}, "$events.event.seq", []]}
READ_OF_DAMAGED: JsonObject = {
    **dict.fromkeys(("executionId", "status", "lastSeq", "pagesFrom"), 1),
    "seqs": {"$filter": {"input": SEQS_OF_ROWS, "cond": {"$isNumber": "$$this"}}},
}


class RunUnreadable(AppError):
    """The stored form of a run is damaged."""

    code = "run-unreadable"

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        super().__init__(
            "The stored form of this run is damaged, so it cannot continue. The service's log has the reason."
        )


async def open_log(database: Database, tree: RunTree, *, is_new: bool, is_last_try: bool) -> bool:
    """Open a tree's log after reading its stored documents; returns whether the tree can be run.

    A tree that cannot be read is ended here on the last try, or if it was cancelled.

    Raises:
        RunUnreadable: the tree cannot be read now; another process may try.
    """
    if is_new:
        assert tree.root.id is not None  # noqa: S101 - it was stored
        tree.log.open({tree.root.execution_id: Stored(tree.root.id)})
        return True
    if tree.root.previous_execution_id is not None:
        with contextlib.suppress(PreviousExecutionMissing, *DAMAGED):  # a run that needs it fails when reading it
            tree.history = await read_history(database, tree.root.previous_execution_id)
    try:
        tree.log.open(await read_tree(database, tree))
    except RunUnreadable as error:
        log.error("run-unreadable", problem=error.problem)
        if not is_last_try and not tree.root.cancel_requested:
            raise
        await fail_unreadable(database, tree)
        return False
    return True


async def read_tree(database: Database, tree: RunTree) -> dict[str, Stored]:
    """Read all documents and events of a tree into it; returns where each document ends.

    Raises:
        RunUnreadable: a document or an event is damaged.
    """
    found = collection_of(database, AgentExecution).find(
        {"rootExecutionId": tree.root.execution_id}, {"runState": 0, "events": 0}
    )
    raw_members = await found.to_list()
    try:
        members = [AgentExecution.model_validate(raw) for raw in raw_members]
        if any(raw.get("lastSeq") is None for raw in raw_members):
            raise ValueError("an execution lacks lastSeq")
        tree.log.last_seq = max(member.last_seq for member in members)
        numbers: list[int] = []
        async for execution_id, event in tree_events(database, tree.root.execution_id):
            tree.stored_events.setdefault(execution_id, []).append(event)
            numbers.append(event["seq"])
        if len(numbers) != tree.log.last_seq or numbers != list(range(1, len(numbers) + 1)):
            raise ValueError("events are missing")
        for events in tree.stored_events.values():
            ensure_foldable(events)
        stored = await read_stored(database, tree.root.execution_id)
    except (ValidationError, OperationFailure, *DAMAGED) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error)[:MAX_PROBLEM]
        raise RunUnreadable(f"{type(error).__name__}: {problem}") from error
    agent_ids = await find_agent_ids(database, [member.agent for member in members])
    for member in members:
        tree.add_existing(member, agent_ids.get(member.agent))
    return stored


def ensure_foldable(events: list[JsonObject]) -> None:
    """Raise one of `DAMAGED` if an execution's events cannot be folded into its state."""
    state = ExecutionState(max_revisions=0)
    for event in events:
        state.apply(event)


async def fail_unreadable(database: Database, tree: RunTree) -> None:
    """End the unfinished executions of a tree that cannot be read, the root last.

    They end as cancelled if that was requested, else as failed. Their events go to pages, because the documents may be
    damaged.
    """
    selector = {"rootExecutionId": tree.root.execution_id}
    found = collection_of(database, AgentExecution).find(selector, READ_OF_DAMAGED).sort("createdAt", -1)
    members = sorted(await found.to_list(), key=lambda raw: raw["executionId"] == tree.root.execution_id)
    pages = await collection_of(database, ExecutionEventPage).find(selector, {"lastSeq": 1}).to_list()
    tree.log.last_seq = max(chain([0], *map(stored_seqs, members), *map(stored_seqs, pages)))
    tree.log.open({raw["executionId"]: full_document(raw) for raw in members})
    for raw in members:
        if raw.get("status") not in TERMINAL_STATUSES:
            append_ending(tree.log, raw["executionId"], is_cancelled=bool(tree.root.cancel_requested))


def stored_seqs(raw: Raw) -> Iterator[int]:
    """Yield the event numbers that a document or page mentions."""
    yield from plausible((raw.get("lastSeq"), *raw.get("seqs", ())))


def full_document(raw: Raw) -> Stored:
    """Return the position of a document that has no room for more rows."""
    first = raw["pagesFrom"] if isinstance(raw.get("pagesFrom"), int) else None
    return Stored(raw["_id"], MAX_DOCUMENT_ROWS, pages_from=first, page=None if first is None else Page())


def append_ending(tree_log: TreeLog, execution_id: str, *, is_cancelled: bool) -> None:
    """End an execution when only its id is known."""
    now = utc_now()
    closed = tree_cancel_writes(tree_log.root_id) if execution_id == tree_log.root_id else []
    ending: dict[str, Any] = {"completedAt": now, "updatedAt": now, "lease": None}
    if execution_id == tree_log.root_id:
        status = ExecutionStatus.CANCELLED if is_cancelled else ExecutionStatus.FAILED
        closed.append(SideWrite(*mark_insert(end_mark(execution_id, status.value, tree_log.last_seq + 1, now))))
    if is_cancelled:
        ending |= {"status": ExecutionStatus.CANCELLED.value, "stopReason": StopReason.CANCELLED.value}
        tree_log.append(execution_id, AgentCancelled(), changes=ending, side_writes=closed)
        return
    error = error_detail(RunUnreadable())
    ending |= {"status": ExecutionStatus.FAILED.value, "stopReason": StopReason.ERROR.value, "error": error}
    tree_log.append(execution_id, AgentError(error=error), changes=ending, side_writes=closed)
