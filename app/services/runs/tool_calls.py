"""Running the tool calls of a turn: at once, each in its own sandbox, errors handed back to the model."""

import asyncio

from app.events.types import ToolResult
from app.models.json_values import JsonObject
from app.services.catalog.definitions import ToolDefinition
from app.services.runs.concurrency import plain_errors
from app.services.runs.execution_run import ExecutionRun
from app.services.runs.state import OpenToolCall
from app.services.tools.sandbox import ToolFailed, ToolInvocation
from app.services.tools.schemas import InvalidSchema, compile_schema

MAX_CALLS_A_TURN = 16


async def run_open_calls(run: ExecutionRun) -> None:
    """Run every tool call of the execution that has no result yet, and append each result as it comes."""
    calls = list(run.state.open_calls.values())
    for call in calls[MAX_CALLS_A_TURN:]:
        refusal = failure("too-many-tool-calls", f"At most {MAX_CALLS_A_TURN} tool calls run in one turn.")
        record(run, call, refusal, 0.0)
    with plain_errors():
        async with asyncio.TaskGroup() as group:
            for call in calls[:MAX_CALLS_A_TURN]:
                group.create_task(run_call(run, call))


async def run_call(run: ExecutionRun, call: OpenToolCall) -> None:
    """Run one call; whatever goes wrong becomes its result."""
    tool = next((tool for tool in run.agent.tools if tool.name == call.name), None)
    refusal = problem_with(call, tool)
    if tool is None or refusal is not None:
        record(run, call, refusal, 0.0)
        return
    try:
        outcome = await run.crew.sandbox.run(ToolInvocation(tool.code, call.input, context_of(run)))
    except ToolFailed as error:
        record(run, call, failure(error.code, error.message), None)
    else:
        record(run, call, outcome.output, outcome.duration_ms)


def problem_with(call: OpenToolCall, tool: ToolDefinition | None) -> JsonObject | None:
    """Why a call cannot run, in words that a model can act on."""
    if tool is None:
        return failure("tool-not-granted", f"There is no tool {call.name!r} for you.")
    if call.arguments is not None:
        return failure("tool-arguments-invalid", "The arguments are not a JSON object.")
    try:
        wrong = compile_schema(tool.input_schema).errors(call.input)
    except InvalidSchema as error:
        return failure("tool-schema-invalid", str(error))
    if wrong:
        listed = "; ".join(f"{error.path or 'input'}: {error.message}" for error in wrong[:8])
        return failure("tool-input-invalid", listed)
    return None


def failure(code: str, message: str) -> JsonObject:
    """A tool's result when it failed."""
    return {"error": {"code": code, "message": message}}


def record(run: ExecutionRun, call: OpenToolCall, output: object, duration_ms: float | None) -> None:
    """Append a call's result."""
    run.append(
        ToolResult(
            agent_id=run.agent.agent_id,
            tool_call_id=call.id,
            tool_name=call.name,
            output=output,
            duration_ms=duration_ms,
        )
    )


def context_of(run: ExecutionRun) -> JsonObject:
    """What a tool is told about its caller."""
    return {
        "executionId": run.id,
        "agentId": run.agent.agent_id,
        "department": run.agent.department.slug,
        "project": str(run.execution.project) if run.execution.project else None,
    }
