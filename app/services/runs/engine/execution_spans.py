"""The spans of executions and waits, recorded once the corresponding events are stored."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.events.log.log_rows import Row
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution
from app.services.llm.traced_models import messages_text
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.run_tree import RunTree
from app.telemetry import gen_ai
from app.telemetry.tracing import FinishedSpan, Traces

log = structlog.get_logger(__name__)

REPEATED = timedelta(minutes=1)
"""The time before a takeover in which a dead process may not have exported the spans of ended executions."""


def reopened_at(runs: Mapping[str, ExecutionRun], execution_id: str) -> str | None:
    """Return when an execution was last sent back."""
    run = runs.get(execution_id)
    return run.state.reopened_at if run else None


def record_end_span(tree: RunTree, row: Row) -> None:
    """Record the span of an execution whose end is stored."""
    if row.ending is None or not tree.context.trace.is_on:
        return
    execution = next((one for one in tree.members if one.execution_id == row.ending.execution_id), None)
    if execution is not None:
        try:
            record_execution(tree, execution, {**row.changes, "status": row.ending.status.value})
        except Exception:  # the end is stored, even if its span is lost
            log.exception("span-lost")


def repeat_end_spans(tree: RunTree) -> None:
    """Record the spans of executions that ended just before their process died, which may not have exported them."""
    if not tree.context.trace.is_on or tree.root.takeovers == 0:
        return
    for execution in tree.members:
        ended = execution.completed_at
        if execution.status.is_terminal and ended is not None and utc_now() - ended < REPEATED:
            stored = {"tokenUsage": execution.token_usage, "costUsd": execution.cost_usd, "error": execution.error}
            reason = execution.stop_reason.value if execution.stop_reason else None
            facts = {"status": execution.status.value, "completedAt": ended, "stopReason": reason}
            record_execution(tree, execution, stored | facts)


def record_execution(tree: RunTree, execution: AgentExecution, end: Mapping[str, Any]) -> None:
    """Record an execution's span; `end` has the fields of its end by their MongoDB names."""
    run = tree.runs.get(execution.execution_id)
    agent_id = tree.agent_ids.get(execution.execution_id) or (run.agent.agent_id if run else None)
    usage = end.get("tokenUsage") or {}
    facts = {
        gen_ai.OPERATION: gen_ai.INVOKE_AGENT,
        gen_ai.AGENT_ID: agent_id,
        gen_ai.AGENT_NAME: run.agent.name if run else None,
        gen_ai.REQUEST_MODEL: run.answering_model if run else None,
        gen_ai.CONVERSATION_ID: execution.conversation_id,
        gen_ai.INPUT_TOKENS: usage.get("input"),
        gen_ai.OUTPUT_TOKENS: usage.get("output"),
        gen_ai.CACHE_READ_TOKENS: usage.get("cacheRead") or None,
        gen_ai.CACHE_WRITE_TOKENS: usage.get("cacheWrite") or None,
        gen_ai.COST: end.get("costUsd"),
        gen_ai.EXECUTION_ID: execution.execution_id,
        gen_ai.ROOT_EXECUTION_ID: tree.root.execution_id,
        gen_ai.KIND: execution.kind.value,
        gen_ai.STATUS: end["status"],
        gen_ai.STOP_REASON: end.get("stopReason"),
        gen_ai.TAKEOVERS: tree.root.takeovers if execution is tree.root else None,
    }
    if tree.context.trace.captures_content:
        facts |= {
            gen_ai.INPUT_MESSAGES: messages_text([{"role": "user", "content": execution.prompt}]),
            gen_ai.OUTPUT_MESSAGES: messages_text([{"role": "assistant", "content": text_in(end.get("output"))}]),
        }
    ended = end.get("completedAt") or utc_now()
    name = f"{gen_ai.INVOKE_AGENT} {agent_id}" if agent_id else gen_ai.INVOKE_AGENT
    span = FinishedSpan(name, began_at(execution, run, end) or ended, ended, known(facts), code_in(end.get("error")))
    tree.context.trace.record_execution(execution.execution_id, execution.parent_execution_id, span)


def began_at(execution: AgentExecution, run: ExecutionRun | None, end: Mapping[str, Any]) -> datetime | None:
    """Return when an execution began, or when it was last sent back."""
    if run is not None and run.state.reopened_at is not None:
        return datetime.fromisoformat(run.state.reopened_at)
    return end.get("startedAt") or execution.started_at


def record_queue_wait(traces: Traces, root: AgentExecution, since: datetime, now: datetime, *, was_owned: bool) -> None:
    """Record how long a tree waited until a process took it, at first or after its process had died."""
    if not traces.is_on:
        return
    facts = {gen_ai.EXECUTION_ID: root.execution_id, gen_ai.TAKEOVERS: root.takeovers}
    span = FinishedSpan("take_over" if was_owned else "wait_in_queue", since, now, facts)
    traces.tree(root.execution_id, root.trace).record(root.execution_id if was_owned else None, span)


def known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that are known."""
    return {name: value for name, value in facts.items() if value is not None}


def code_in(error: object) -> str | None:
    """Return the code of a stored error."""
    return str(error.get("code")) if isinstance(error, dict) else None


def text_in(output: object) -> str | None:
    """Return the text of a stored output."""
    return str(output.get("text")) if isinstance(output, dict) else None
