"""The tool calls of a turn, which run concurrently; the model receives their errors."""

import asyncio
import json
from contextlib import AbstractContextManager, nullcontext

from app.events.types import ToolResult
from app.failpoints import failpoint
from app.kit.concurrency import plain_errors
from app.kit.json_values import JsonObject
from app.services.catalog.definitions import ToolDefinition
from app.services.catalog.tool_checker import check_input
from app.services.runs.approvals.approved_calls import (
    approved_input,
    ensure_not_begun,
    ensure_still_approved,
    needs_approval,
)
from app.services.runs.approvals.writes import cancel_writes
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.state import OpenToolCall
from app.services.tools.outcomes import ToolFailed, ToolOutcome
from app.telemetry import gen_ai
from app.telemetry.metrics import TOOL_CALLS
from app.telemetry.tracing import NO_SPAN, Span

MAX_CALLS_A_TURN = 16
MAX_SPAN_CHARACTERS = 16_384
OUTCOMES = {"tool-timeout": "timeout", "declined": "declined", "approval-expired": "declined"}
"""The outcomes of failed calls in metrics; others are errors."""
NO_OBJECT = "The arguments are not a JSON object."
CUT_ARGUMENTS = (
    "The arguments were cut off at the model's output limit. Call the tool again with shorter arguments, or several "
    "times with a part each."
)


async def run_open_calls(run: ExecutionRun) -> None:
    """Run every tool call of the execution without a result, and append each result as it arrives."""
    calls = list(run.state.open_calls.values())
    for call in calls[MAX_CALLS_A_TURN:]:
        record_failure(run, call, ToolFailed("too-many-tool-calls", f"At most {MAX_CALLS_A_TURN} calls run in a turn."))
    with run.waits.paused(), plain_errors():
        async with asyncio.TaskGroup() as group:
            for call in calls[:MAX_CALLS_A_TURN]:
                group.create_task(run_call(run, call))


async def run_call(run: ExecutionRun, call: OpenToolCall) -> None:
    """Run one call, once a person has approved it where that is required; an error becomes its result."""
    tool = next((tool for tool in run.agent.tools if tool.name == call.name), None)
    began = False
    with run.waits.working():
        try:
            if tool is None:
                raise ToolFailed("tool-not-granted", f"There is no tool {call.name!r} for you.")
            if call.arguments is not None:
                raise ToolFailed("tool-arguments-invalid", CUT_ARGUMENTS if call.is_cut else NO_OBJECT)
            tool_input = await input_of(run, tool, call)
            await ensure_unique(run, tool, call)
            if call.approval_id is not None:
                await ensure_still_approved(run, call, tool_input)
            failpoint("before-tool-call")
            began = True
            with tool_span(run, tool, call, tool_input) as span:
                outcome = await run.context.tools.run(tool, tool_input, context_of(run))
                note_result(run, span, outcome)
        except ToolFailed as error:
            count_call(tool, error)
            if not began:
                with tool_span(run, tool, call, call.input) as span:
                    span.fail(error.code)
            record_failure(run, call, error)
        else:
            count_call(tool, None)
            failpoint("after-tool-call")
            record(run, call, outcome, None if tool_input == call.input else tool_input)


def tool_span(
    run: ExecutionRun, tool: ToolDefinition | None, call: OpenToolCall, tool_input: JsonObject
) -> AbstractContextManager[Span]:
    """Return the span of a tool call; a tool that the agent does not have gets no name, because models can invent
    any."""
    trace = run.context.trace
    if not trace.is_on:
        return nullcontext(NO_SPAN)
    facts = {gen_ai.OPERATION: gen_ai.EXECUTE_TOOL, gen_ai.TOOL_CALL_ID: call.id, gen_ai.TOOL_TYPE: gen_ai.FUNCTION}
    if tool is None:
        return trace.span(run.id, gen_ai.EXECUTE_TOOL, facts)
    facts |= {gen_ai.TOOL_NAME: tool.name, gen_ai.TOOL_SOURCE: tool.source.value}
    if trace.captures_content:
        facts[gen_ai.TOOL_ARGUMENTS] = content_text(tool_input)
    return trace.span(run.id, f"{gen_ai.EXECUTE_TOOL} {tool.name}", facts)


def note_result(run: ExecutionRun, span: Span, outcome: ToolOutcome) -> None:
    """Add a result to the span of its call, if spans hold content."""
    if run.context.trace.captures_content:
        span.set({gen_ai.TOOL_RESULT: content_text(outcome.output)})


def content_text(value: object) -> str:
    """Return an input or a result as a span holds it: JSON, cut to a bounded length."""
    return json.dumps(value, ensure_ascii=False)[:MAX_SPAN_CHARACTERS]


def count_call(tool: ToolDefinition | None, error: ToolFailed | None) -> None:
    """Count a tool call that has a result; calls of tools that the agent does not have have no source."""
    if tool is not None:
        outcome = "ok" if error is None else OUTCOMES.get(error.code, "error")
        TOOL_CALLS.labels(tool.source.value, outcome).inc()


async def input_of(run: ExecutionRun, tool: ToolDefinition, call: OpenToolCall) -> JsonObject:
    """Return the input to call a tool with: the model's, or the one with which a person approved the call.

    An input that does not match the tool's schema is refused before anyone is asked about it.

    Raises:
        ToolFailed: the input does not match, or the call was not approved.
        TreeLost: this process no longer owns the run.
    """
    if not needs_approval(run, tool, call):
        await check_input(tool, call.input)
        return call.input
    if call.approval_id is None:
        await check_input(tool, call.input)
        ensure_not_begun(tool, call)
    tool_input = await approved_input(run, tool, call)
    await check_input(tool, tool_input)
    return tool_input


async def ensure_unique(run: ExecutionRun, tool: ToolDefinition, call: OpenToolCall) -> None:
    """Keep a tool that may have effects from running twice for one call, by storing the call before it starts.

    Raises:
        ToolFailed: another process may have run it.
        TreeLost: this process no longer owns the run.
    """
    ensure_not_begun(tool, call)
    if not tool.may_run_again:
        await run.log.committed()
    run.log.ensure_owned()


def record(run: ExecutionRun, call: OpenToolCall, outcome: ToolOutcome, edited_input: JsonObject | None = None) -> None:
    """Append a call's result; an approval that it still waits for is cancelled."""
    awaited = [call.approval_id] if call.approval_id and not call.is_decided else []
    run.append_with(
        cancel_writes(awaited, (run.id, run.log.root_id)),
        ToolResult(
            agent_id=run.agent.agent_id,
            tool_call_id=call.id,
            tool_name=call.name,
            output=outcome.output,
            duration_ms=outcome.duration_ms,
            console=outcome.console or None,
            memory_bytes=outcome.memory_bytes,
            edited_input=edited_input,
        ),
    )


def record_failure(run: ExecutionRun, call: OpenToolCall, error: ToolFailed) -> None:
    """Append the error of a call; one that did not start took no time."""
    output: JsonObject = {"error": {"code": error.code, "message": error.message}}
    record(run, call, ToolOutcome(output, error.duration_ms or 0.0, error.console, error.memory_bytes))


def context_of(run: ExecutionRun) -> JsonObject:
    """Return the context that a tool receives about its caller."""
    return {
        "executionId": run.id,
        "agentId": run.agent.agent_id,
        "department": run.agent.department.slug,
        "project": str(run.execution.project) if run.execution.project else None,
        "episode": str(run.execution.episode) if run.execution.episode else None,
    }
