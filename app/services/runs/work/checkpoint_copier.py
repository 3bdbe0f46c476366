"""Retries from a checkpoint: the events of the failed run become the first events of the new one.

The owner of the new tree appends them to its log under new numbers and ids, each marked `copied`. Left out are the
events that ended the old run, and the costs of its calls, so that every call is counted once. A last event records that
the copy is complete; a process that takes the tree over before that continues with the next event.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.database.natural_keys import find_agent_ids
from app.errors import AppError
from app.events.log.full_events import tree_events
from app.events.types import AgentRetry, BudgetAlert, Event
from app.kit.json_values import JsonObject
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.services.llm.calls import TokenUsage
from app.services.runs.engine.leases import WITHOUT_BULK
from app.services.runs.work.run_tree import RETRIED, RunTree
from app.services.runs.work.state import REVISION

UNSUCCESSFUL = ("agent-error", "agent-cancelled")
ENDS_AS = {"agent-complete": ExecutionStatus.COMPLETED, "agent-error": ExecutionStatus.FAILED}
ID_FIELDS = ("executionId", "departmentExecutionId")
ENVELOPE = ("type", "seq", "executionId", "rootExecutionId", "timestamp")
SPENDING = ("usage", "costUsd", "failedCall", "calls")
NOTHING_SPENT: JsonObject = {"tokenUsage": TokenUsage().as_json(), "costUsd": 0.0}
KEPT_ENDING = (
    "status",
    "stopReason",
    "output",
    "error",
    "providerMessage",
    "runState",
    "completedAt",
    "executionTime",
    "qualityScore",
    "retryCount",
    "truncated",
)


class RetriedExecutionMissing(AppError):
    """The run to retry has been deleted."""

    code = "retried-execution-missing"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution {execution_id}, which this run retries, no longer exists.")


class CopiedEvent:
    """An event of the old run in the form that a log takes."""

    def __init__(self, event: JsonObject) -> None:
        self.type: str = event["type"]
        own = {name: value for name, value in event.items() if name not in (*ENVELOPE, *SPENDING)}
        self._body = own | (NOTHING_SPENT if "tokenUsage" in own else {}) | {"copied": True}

    def body(self) -> JsonObject:
        """Return the event's own fields."""
        return self._body


def is_history(event: JsonObject) -> bool:
    """Return whether later events depend on this one: not on retries and budget alerts, except revisions after an
    end."""
    if event["type"] == BudgetAlert.type:
        return False
    return event["type"] != AgentRetry.type or event["reason"] == REVISION


@dataclass
class CheckpointCopier:
    """Copies one old run into a tree that this process owns; `copies` are the new executions by the old ids."""

    database: Database
    tree: RunTree
    old_root: str
    old: dict[str, Raw] = field(default_factory=dict[str, Raw])
    names: dict[Any, str] = field(default_factory=dict[Any, str])
    copies: dict[str, AgentExecution] = field(default_factory=dict[str, AgentExecution])

    async def copy_remaining(self) -> None:
        """Append the events that are not copied yet, then record that the run is retried.

        Raises:
            RetriedExecutionMissing: the old run no longer exists.
            TreeLost: this process no longer owns the tree.
        """
        tree, root_id = self.tree, self.tree.root.execution_id
        stored = [event for events in tree.stored_events.values() for event in events]
        if any(event["type"] == AgentRetry.type and event["reason"] == RETRIED for event in stored):
            return
        await self._read_old()
        done = sum(map(is_history, stored))
        place = 0
        async for event in self._old_events():
            place += 1
            if place > done:
                await tree.log.room()
                await self._copy(event)
        tree.append_stored(tree.root, AgentRetry(agent_id=tree.agent_ids.get(root_id), reason=RETRIED, attempt=1))

    async def _read_old(self) -> None:
        executions = collection_of(self.database, AgentExecution)
        found = executions.find({"rootExecutionId": self.old_root}, {"events": 0})
        self.old = {raw["executionId"]: raw async for raw in found}
        if self.old_root not in self.old:
            raise RetriedExecutionMissing(self.old_root)
        self.names = await find_agent_ids(self.database, [raw.get("agent") for raw in self.old.values()])
        self.copies = {copy.retry_of: copy for copy in self.tree.members if copy.retry_of}

    async def _old_events(self) -> AsyncIterator[JsonObject]:
        """Yield the events of the old run without those that ended it."""
        async for execution_id, event in tree_events(self.database, self.old_root):
            if execution_id not in self.old or not is_history(event):
                continue
            if event["type"] not in UNSUCCESSFUL or self._is_settled(execution_id):
                yield event

    def _is_settled(self, old_id: str) -> bool:
        """Return whether an ancestor was completed: it has used this execution's end, which therefore stays."""
        seen = {old_id}
        parent = self.old.get(self.old[old_id].get("parentExecutionId") or "")
        while parent is not None and parent["executionId"] not in seen:
            if parent["status"] == ExecutionStatus.COMPLETED:
                return True
            seen.add(parent["executionId"])
            parent = self.old.get(parent.get("parentExecutionId") or "")
        return False

    async def _copy(self, event: JsonObject) -> None:
        copy = await self._copy_of(event["executionId"])
        old = self.old[event["executionId"]]
        changes: JsonObject = {}
        if event["type"] == "agent-start":
            changes = {"status": ExecutionStatus.RUNNING.value, "startedAt": utc_now()}
        elif event["type"] == "review-status":
            reviewed = ("reviewStatus", "reviewNotes", "reviewedBy")
            changes = {name: old[name] for name in reviewed if name in old}
        elif ENDS_AS.get(event["type"]) == old["status"]:
            changes = {name: old[name] for name in KEPT_ENDING if name in old} | NOTHING_SPENT
        event = await self._of_this_tree(event)
        if "output" in changes:
            changes["output"] = await self._of_this_output(changes["output"])
        self.tree.append_stored(copy, cast("Event", CopiedEvent(event)), **changes)

    async def _of_this_tree(self, event: JsonObject) -> JsonObject:
        """Return the event with the old tree's execution ids replaced."""
        match event["type"]:
            case "orchestrator-progress":
                return await self._renamed(event)
            case "department-complete":
                return event | {"report": await self._renamed(event["report"])}
            case "agent-complete":
                return event | {"output": await self._of_this_output(event["output"])}
            case _:
                return event

    async def _of_this_output(self, output: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
        """Return an output with the execution ids in its report replaced."""
        if isinstance(output, dict) and "report" in output:
            return output | {"report": await self._renamed(output["report"])}
        return output

    async def _renamed(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value in, any JSON value out
        """Return the value with the old tree's execution ids replaced."""
        match value:
            case dict():
                return {
                    name: (await self._copy_of(item)).execution_id
                    if name in ID_FIELDS and item in self.old
                    else await self._renamed(item)
                    for name, item in value.items()
                }
            case list():
                return [await self._renamed(item) for item in value]
            case _:
                return value

    async def _copy_of(self, old_id: str) -> AgentExecution:
        if old_id not in self.copies:
            self.copies[old_id] = await self._create_copy(self.old[old_id])
        return self.copies[old_id]

    async def _create_copy(self, raw: Raw) -> AgentExecution:
        root = self.tree.root
        old = AgentExecution.model_validate({name: raw[name] for name in raw if name not in WITHOUT_BULK})
        parent = self.copies.get(old.parent_execution_id or "", root)
        copy = AgentExecution.new_child(
            root,
            parent.execution_id,
            agent=old.agent,
            department=old.department,
            kind=old.kind,
            prompt=old.prompt,
            params=old.params,
            options=root.options,
            retry_of=old.execution_id,
        )
        await self.tree.log.add_child(copy)
        self.tree.add_existing(copy, self.names.get(old.agent))
        return copy
