"""Output schemas in runs: the answer is validated, and turned into data by formatting calls if it does not match.

The answers of formatting calls are events, and everything else follows from them and the schema. A process that takes
the run over repeats no finished call.
"""

from app.errors import FieldError
from app.events.types import AgentThinking
from app.kit.json_values import JsonObject, clean_text
from app.models.agent_execution import ExecutionKind
from app.services.llm.calls import Completion, ModelRequest, RunPurpose, call_fields
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.formats import FORMAT_SYSTEM_PROMPT, format_prompt, format_repair
from app.services.runs.outputs.answer_data import DataReading, OutputInvalid, OutputSchema, text_output
from app.services.runs.work.execution_run import ExecutionRun

MAX_FORMAT_CALLS = 3
"""One formatting call and two repairs."""
MAX_FORMATTED_CHARACTERS = 1024 * 1024
FORMAT_TEMPERATURE = 0.0


async def compile_schema_of(run: ExecutionRun) -> OutputSchema | None:
    """Return the schema that an execution's data has to match, if it has one.

    Raises:
        OutputSchemaInvalid: it cannot be used.
    """
    if run.output_schema is None:
        return None
    return await OutputSchema.compile(run.output_schema, run.agent.agent_id)


async def output_of(run: ExecutionRun, schema: OutputSchema | None) -> JsonObject:
    """Return the text of the answer and its data, which matches the schema if there is one.

    Without a schema an agent's data is its answer if that is JSON; a report has none.

    Raises:
        BudgetRefused: a budget does not permit a formatting call.
        ModelCallFailed: a formatting call failed.
        OutputInvalid: the data does not match, even after repairs.
        TreeLost: this process no longer owns the run.
    """
    text = run.state.answer or ""
    if schema is None:
        return text_output(text) if run.execution.kind is ExecutionKind.AGENT else {"text": text}
    reading = await schema.read(text, truncated=run.state.truncated)
    asked: list[tuple[str, tuple[FieldError, ...]]] = []
    for attempt in range(MAX_FORMAT_CALLS):
        if not reading.problems:
            break
        if len(run.state.formatted) <= attempt:
            await run.log.room()
            await format_once(run, schema, asked, attempt + 1)
        answer = run.state.formatted[attempt]
        reading = await schema.read(answer["message"], truncated=bool(answer["format"].get("truncated")), searched=True)
        asked.append((answer["message"], reading.problems))
    if reading.problems:
        raise OutputInvalid(reading.problems, len(asked))
    return {"text": text, "data": reading.value}


async def format_once(
    run: ExecutionRun, schema: OutputSchema, before: list[tuple[str, tuple[FieldError, ...]]], attempt: int
) -> None:
    """Make one formatting call and append the event of its answer; `before` are the answers that did not match."""
    completion = await run.context.models.complete(format_request(run, schema, before))
    text = clean_text(completion.text)[:MAX_FORMATTED_CHARACTERS]
    reading = await schema.read(text, truncated=completion.is_cut, searched=True)
    spent: JsonObject = {"model": completion.model} | call_fields(completion.calls)
    run.append(
        AgentThinking(
            agent_id=run.agent.agent_id,
            message=text,
            format=outcome_of(completion, reading, attempt),
            cached=completion.is_cached or None,
            omitted=completion.omitted,
            prompt_hash=completion.prompt_hash,
            **spent,
        )
    )


def outcome_of(completion: Completion, reading: DataReading, attempt: int) -> JsonObject:
    """Return what the event says about a formatting call's answer."""
    problems = [{"path": one.path, "message": one.message} for one in reading.problems]
    cut = {"truncated": True} if completion.is_cut else {}
    return {"attempt": attempt, "valid": not problems, "problems": problems} | cut


def format_request(
    run: ExecutionRun, schema: OutputSchema, before: list[tuple[str, tuple[FieldError, ...]]]
) -> ModelRequest:
    """Return the call that asks for the data; providers take a schema of an object as their response format."""
    in_words = None if schema.is_of_objects else schema.schema
    prompt = format_prompt(run.state.answer or "", schema=in_words, truncated=run.state.truncated)
    messages = [system_message(FORMAT_SYSTEM_PROMPT), user_message(prompt)]
    for text, problems in before:
        messages += [{"role": "assistant", "content": text or "(nothing)"}, user_message(format_repair(problems))]
    named = {"name": "output", "strict": True, "schema": schema.schema}
    return ModelRequest(
        model=run.model_for(RunPurpose.FORMAT),
        messages=messages,
        purpose=RunPurpose.FORMAT,
        execution_id=run.id,
        response_format=None if in_words else {"type": "json_schema", "json_schema": named},
        temperature=FORMAT_TEMPERATURE,
        task=1,
        metadata=run.metadata,
    )
