"""The agent loop: a model call, its tool calls, their results, until the model answers without a tool call."""

import json

from app.events.types import AgentResponse, AgentThinking, ToolCall
from app.kit.json_values import JsonObject
from app.models.agent_execution import StopReason
from app.services.llm.calls import Completion, RequestedToolCall, RunPurpose, call_fields
from app.services.llm.failures.errors import ModelAnswerInvalid
from app.services.prompts.agents import last_step_prompt
from app.services.prompts.fences import user_message
from app.services.runs.work.execution_run import ExecutionRun
from app.services.runs.work.tool_calls import run_open_calls
from app.services.tools.names import function_name

MAX_ANSWER_BYTES = 1024 * 1024
MAX_ARGUMENT_CHARACTERS = 256 * 1024


async def work(run: ExecutionRun, purpose: RunPurpose) -> None:
    """Continue an execution from its state until its model has answered.

    Raises:
        ModelCallFailed: a model call gave no usable answer.
        TreeLost: this process no longer owns the run.
    """
    while run.state.answer is None:
        await run.log.room()
        if run.state.open_calls:
            await run_open_calls(run)
        else:
            await take_turn(run, purpose)


async def take_turn(run: ExecutionRun, purpose: RunPurpose) -> None:
    """Make one model call and append the events of its answer."""
    is_last = run.state.step >= run.agent.max_steps
    messages = [*run.opening, *run.state.turns]
    tools = [] if is_last else [tool.as_model_tool() for tool in run.agent.tools]
    if is_last:
        messages.append(user_message(last_step_prompt()))
    completion = await run.context.models.complete(run.request(messages, purpose, tools))
    if completion.tool_calls and not is_last:
        record_tool_calls(run, completion)
        return
    text = completion.text
    if completion.tool_calls and not text.strip():
        text = last_text(run)
    if len(text.encode()) > MAX_ANSWER_BYTES:
        model = run.model_for(purpose)
        error = ModelAnswerInvalid(f"The model {model!r} answered with more than {MAX_ANSWER_BYTES} bytes of text.")
        error.calls = completion.refused(error.code)
        raise error
    run.append(
        AgentResponse(
            agent_id=run.agent.agent_id,
            content=text,
            finish_reason=completion.finish_reason,
            output_truncated=completion.is_cut or None,
            step=run.state.step + 1,
            **begins(completion),
        )
    )


def last_text(run: ExecutionRun) -> str:
    """Return the last text of a model that requests a tool although it was offered none; it may be empty."""
    said = (str(turn.get("content") or "") for turn in reversed(run.state.turns) if turn["role"] == "assistant")
    return next((text for text in said if text.strip()), "")


def record_tool_calls(run: ExecutionRun, completion: Completion) -> None:
    """Append a turn's text, if any, and its tool calls in one group."""
    step = run.state.step + 1
    events: list[AgentThinking | ToolCall] = []
    if completion.text.strip():
        thinking = AgentThinking(agent_id=run.agent.agent_id, message=completion.text, step=step, **begins(completion))
        events.append(thinking)
    for call in completion.tool_calls:
        event = tool_call_event(run, call, step, {} if events else begins(completion))
        is_cut = completion.is_cut and event.arguments is not None and call is completion.tool_calls[-1]
        events.append(event.model_copy(update={"arguments_cut": True}) if is_cut else event)
    run.append(*events)


def tool_call_event(run: ExecutionRun, call: RequestedToolCall, step: int, beginning: JsonObject) -> ToolCall:
    """Return the event of a requested call; arguments that are not a JSON object are kept as text.

    A call that goes back under another name loses its attached data: a signature is valid for the original call only.
    """
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    is_object = isinstance(arguments, dict) and len(call.arguments) <= MAX_ARGUMENT_CHARACTERS
    granted = next((tool for tool in run.agent.tools if tool.function_name == call.name), None)
    identity = f"{call.id}_{step}_{run.state.retry_count}" if is_taken(run, call.id) else call.id
    return ToolCall(
        agent_id=run.agent.agent_id,
        tool_call_id=identity,
        tool_name=granted.name if granted else call.name,
        input=arguments if is_object else None,
        arguments=None if is_object else call.arguments[:MAX_ARGUMENT_CHARACTERS],
        version=granted.version if granted else None,
        step=step,
        call_data=call.attached if function_name(call.name) == call.name else None,
        **beginning,
    )


def is_taken(run: ExecutionRun, call_id: str) -> bool:
    """Return whether an earlier turn of the execution used this id: some models count from 1 in each turn."""
    earlier = (call["id"] for turn in run.state.turns for call in turn.get("tool_calls", ()))
    return call_id in earlier


def begins(completion: Completion) -> JsonObject:
    """Return the fields of a turn's first event: the call's cost, and the data that goes back with the turn."""
    return {
        "model": completion.model,
        **call_fields(completion.calls),
        "cached": completion.is_cached or None,
        "reasoning": completion.reasoning,
        "provider_data": completion.provider_data,
        "omitted": completion.omitted,
    }


def stop_reason_of(run: ExecutionRun) -> StopReason:
    """Return why the loop stopped: by itself, or because its steps were used up."""
    return StopReason.MAX_STEPS if run.state.step > run.agent.max_steps else StopReason.COMPLETED
