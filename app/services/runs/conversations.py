"""Continuing a conversation: the message history of a finished execution, as the beginning of another."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from app.errors import AppError, InvalidInput
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.database import Database
from app.models.json_values import JsonObject
from app.services.access.api_keys import Caller
from app.services.llm.turns import CARRIED_FIELDS

FIELD = "previousExecutionId"
MESSAGE_FIELDS = {
    "user": ("content",),
    "assistant": ("content", "tool_calls", *CARRIED_FIELDS),
    "tool": ("content", "tool_call_id", "name"),
}
NO_RESULT = '{"error": {"code": "outcome-unknown", "message": "The run ended before this call had a result."}}'


class ExecutionUnfinished(AppError):
    """What is asked can be done with a finished execution alone."""

    code = "execution-unfinished"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, what: str) -> None:
        super().__init__(f"Execution {execution_id} has not finished: {what}.")


class PreviousExecutionMissing(AppError):
    """The execution that the run goes on from was deleted, or has no history any more."""

    code = "previous-execution-missing"

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"The history of execution {execution_id}, which this run goes on from, is not there any more."
        )


async def check_previous(database: Database, execution_id: str, project: str, caller: Caller) -> None:
    """Refuse what cannot be gone on from.

    Raises:
        InvalidInput: there is no such execution in the project, or it keeps no history.
        ExecutionUnfinished: it is still running.
    """
    fields = {"project": 1, "status": 1, "omitted": "$runState.omitted", "kept": {"$type": "$runState.messages"}}
    found = await database[AgentExecution.get_collection_name()].find_one({"executionId": execution_id}, fields)
    theirs = str(found["project"]) if found and found.get("project") else None
    if found is None or theirs != project.lower() or not caller.may_see(theirs):
        raise InvalidInput.of_field(FIELD, f"There is no execution {execution_id[:100]!r} in this project.")
    if found.get("status") in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING):
        raise ExecutionUnfinished(execution_id, "a run can go on from it when it has")
    if found.get("omitted") or found.get("kept") != "array":
        raise InvalidInput.of_field(FIELD, f"Execution {execution_id} keeps no message history to go on from.")


async def read_history(database: Database, execution_id: str) -> list[JsonObject]:
    """The messages that a run goes on from.

    Raises:
        PreviousExecutionMissing: they are not there any more.
    """
    found = await database[AgentExecution.get_collection_name()].find_one(
        {"executionId": execution_id}, {"_id": 0, "runState.messages": 1}
    )
    messages = ((found or {}).get("runState") or {}).get("messages")
    if not isinstance(messages, list):
        raise PreviousExecutionMissing(execution_id)
    return list(with_results(continued(messages)))


def continued(messages: Iterable[object]) -> Iterator[JsonObject]:
    """The turns in the form that models take: no instructions of another agent, no fields of our own."""
    for message in messages:
        names = MESSAGE_FIELDS.get(str(message.get("role"))) if isinstance(message, dict) else None
        if isinstance(message, dict) and names is not None:
            kept = {name: message[name] for name in names if message.get(name) is not None}
            yield {"role": message["role"], "content": None, **kept}


def with_results(messages: Iterable[JsonObject]) -> Iterator[JsonObject]:
    """The turns with a result for every tool call: a run that was cut off may have left some without."""
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
    """A result for each call that has none."""
    for identity, name in open_calls.items():
        yield {"role": "tool", "tool_call_id": identity, "name": name, "content": NO_RESULT}
