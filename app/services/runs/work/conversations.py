"""Message histories: an execution stores one at its end, and another one can continue it."""

from collections import deque
from collections.abc import Iterable, Iterator
from http import HTTPStatus

import bson
import orjson

from app.database.collections import collection_of
from app.database.connection import Database, Raw
from app.errors import AppError, InvalidInput
from app.events.archive.errors import ExecutionArchived
from app.events.log.full_events import tree_events
from app.events.log.log_rows import MAX_DOCUMENT_EVENT_BYTES
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus, RunOptions
from app.services.access.api_keys import Caller
from app.services.llm.context.omission import droppable_turns
from app.services.llm.messages.turns import CARRIED_FIELDS, portable
from app.services.prompts.agents import task_prompt
from app.services.prompts.fences import user_message
from app.services.runs.work.state import ExecutionState

FIELD = "previousExecutionId"
MESSAGE_FIELDS = {
    "user": ("content",),
    "assistant": ("content", "tool_calls", *CARRIED_FIELDS),
    "tool": ("content", "tool_call_id", "name"),
}
MAX_RUN_STATE_BYTES = 4 * 1024 * 1024
MAX_DOCUMENT_BYTES = 12_000_000
"""The size limit of an execution's document: MongoDB refuses more than 16 MiB, even the write of an end."""
OTHER_FIELDS_BYTES = 256 * 1024
"""Space for the fields other than events, texts and those of the end, a later review included."""
MAX_HISTORY_BYTES = 8 * 1024 * 1024
"""More than the largest context holds."""
HISTORY_FIELDS = dict.fromkeys(
    ("executionId", "rootExecutionId", "previousExecutionId", "prompt", "params", "options", "runState"), 1
)
NO_RESULT = '{"error": {"code": "outcome-unknown", "message": "The run ended before this call had a result."}}'


class ExecutionUnfinished(AppError):
    """The operation needs a finished execution."""

    code = "execution-unfinished"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, what: str) -> None:
        super().__init__(f"Execution {execution_id} has not finished: {what}.")


class PreviousExecutionMissing(AppError):
    """The execution whose conversation the run continues was deleted, or has lost its history."""

    code = "previous-execution-missing"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"The history of execution {execution_id}, which this run continues, no longer exists.")


async def check_previous(database: Database, execution_id: str, project: str, caller: Caller) -> str | None:
    """Check that a run can continue an execution's conversation, and return the id of that conversation, if any.

    Raises:
        InvalidInput: the project has no such execution, or it keeps no history.
        ExecutionUnfinished: it is still running.
        ExecutionArchived: it is archived.
    """
    kept = {"omitted": "$runState.omitted", "kept": {"$type": "$runState.messages"}}
    fields = {"project": 1, "status": 1, "rootExecutionId": 1, "conversationId": 1, "archivedAt": 1, **kept}
    found = await collection_of(database, AgentExecution).find_one({"executionId": execution_id}, fields)
    theirs = str(found["project"]) if found and found.get("project") else None
    if found is None or theirs != project.lower() or not caller.may_see(theirs):
        raise InvalidInput.of_field(FIELD, f"There is no execution {execution_id[:100]!r} in this project.")
    if found.get("status") in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING):
        raise ExecutionUnfinished(execution_id, "a run can continue it when it has")
    if found.get("archivedAt") is not None:
        raise ExecutionArchived(execution_id, "a run can no longer continue it")
    is_readable = found.get("kept") == "array" and (not found.get("omitted") or found.get("rootExecutionId"))
    if not is_readable:
        raise InvalidInput.of_field(FIELD, f"Execution {execution_id} has no message history to continue.")
    conversation_id = found.get("conversationId")
    return conversation_id if isinstance(conversation_id, str) else None


async def read_history(database: Database, execution_id: str) -> list[JsonObject]:
    """Return the messages of the conversation that a run continues, as far back as a model's context allows.

    A history that was too large for its document is read from the events, together with those before it.

    Raises:
        PreviousExecutionMissing: the history no longer exists.
    """
    parts: deque[list[JsonObject]] = deque()
    size_bytes = 0
    previous: str | None = execution_id
    while previous is not None and size_bytes < MAX_HISTORY_BYTES:
        raw = await collection_of(database, AgentExecution).find_one({"executionId": previous}, HISTORY_FIELDS)
        state: JsonObject = (raw or {}).get("runState") or {}
        messages = state.get("messages")
        if raw is None or not isinstance(messages, list):
            if parts:
                break  # the conversation starts after a part that no longer exists
            raise PreviousExecutionMissing(execution_id)
        previous = None
        if state.get("omitted"):
            messages, previous = await own_messages(database, raw), raw.get("previousExecutionId")
        parts.appendleft(list(continued(messages)))
        size_bytes += len(orjson.dumps(parts[0]))
    return newest(list(with_results(message for part in parts for message in part)))


async def own_messages(database: Database, raw: Raw) -> list[JsonObject]:
    """Return an execution's prompt and own turns, from its events."""
    execution_id: str = raw["executionId"]
    state = ExecutionState(max_revisions=(raw.get("options") or {}).get("maxRevisions", RunOptions().max_revisions))
    async for owner, event in tree_events(database, raw.get("rootExecutionId") or execution_id):
        if owner == execution_id:
            state.apply(event)
    return [user_message(task_prompt(raw.get("prompt") or "", raw.get("params"))), *state.turns]


def newest(messages: list[JsonObject]) -> list[JsonObject]:
    """Return the messages without the oldest turns if the conversation exceeds every model's context."""
    sizes = [len(orjson.dumps(message)) for message in messages]
    total = sum(sizes)
    gone: set[int] = set()
    for turn in droppable_turns(messages, len(messages)):
        if total <= MAX_HISTORY_BYTES:
            break
        total -= sum(sizes[place] for place in turn)
        gone.update(turn)
    return [message for place, message in enumerate(messages) if place not in gone]


def continued(messages: Iterable[object]) -> Iterator[JsonObject]:
    """Yield the turns in the form that models accept: without other agents' instructions and our own fields."""
    for message in messages:
        names = MESSAGE_FIELDS.get(str(message.get("role"))) if isinstance(message, dict) else None
        if isinstance(message, dict) and names is not None:
            kept = {name: message[name] for name in names if message.get(name) is not None}
            yield {"role": message["role"], "content": None, **kept}


def with_results(messages: Iterable[JsonObject]) -> Iterator[JsonObject]:
    """Yield the turns with a result for every tool call: an interrupted run may have left some calls without one."""
    open_calls: dict[str, str] = {}
    for message in messages:
        if message["role"] != "tool":
            yield from missing_results(open_calls)
            open_calls = {call["id"]: call["function"]["name"] for call in message.get("tool_calls") or ()}
        elif open_calls.pop(message.get("tool_call_id", ""), None) is None:
            continue  # a result that no call asked for
        yield message
    yield from missing_results(open_calls)


def missing_results(open_calls: dict[str, str]) -> Iterator[JsonObject]:
    """Yield a result for each call without one."""
    for identity, name in open_calls.items():
        yield {"role": "tool", "tool_call_id": identity, "name": name, "content": NO_RESULT}


def asked_of(execution: AgentExecution, state: ExecutionState, history: list[JsonObject]) -> list[JsonObject]:
    """Return the messages before an execution's own turns, if it ends without having been resumed.

    They are the conversation that it continues, its prompt and a head's plan, without the agent's instructions.
    """
    asked = [*history, user_message(task_prompt(execution.prompt, execution.params))]
    return asked if state.plan is None else [*asked, plan_turn(state.plan)]


def plan_turn(plan: JsonObject) -> JsonObject:
    """Return the plan as the head's turn in the stored history."""
    return {"role": "assistant", "content": plan["rationale"], "plan": plan}


def with_history(ending: JsonObject, messages: list[JsonObject], execution: AgentExecution) -> JsonObject:
    """Return an end's fields with the `runState` of its execution.

    A history that is too large for its document loses the data that only its own model can use, such as reasoning. One
    that is still too large is left out: the events hold it.
    """
    kept: JsonObject = {name: getattr(execution, name) for name in ("prompt", "params", "output", "error")}
    taken = MAX_DOCUMENT_EVENT_BYTES + OTHER_FIELDS_BYTES + len(bson.encode(kept | ending))
    room = min(MAX_DOCUMENT_BYTES - taken, MAX_RUN_STATE_BYTES)
    for history in ({"messages": messages}, {"messages": [portable(message) for message in messages]}):
        if len(bson.encode(history)) <= room:
            return ending | {"runState": history}
    omitted = "The history is too large for one document; the events hold it."
    return ending | {"runState": {"messages": [], "omitted": omitted}}
