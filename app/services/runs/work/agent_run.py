"""A run of one agent: the loop, then the judge."""

from collections.abc import Sequence

from app.services.llm.calls import RunPurpose
from app.services.prompts.agents import Brief, task_prompt
from app.services.prompts.judge import JudgeMaterial, conversation_text
from app.services.quality.gates import GateName
from app.services.quality.judge import Submission, judge_output
from app.services.runs.outputs.formatting import compile_schema_of, output_of
from app.services.runs.work.agent_loop import stop_reason_of, work
from app.services.runs.work.execution_run import ExecutionRun


async def run_agent(run: ExecutionRun) -> None:
    """Answer the prompt, turn the answer into data if there is a schema, have it judged if requested, and end."""
    run.begin()
    schema = await compile_schema_of(run)
    run.open_with(task_prompt(run.execution.prompt, run.execution.params))
    await work(run, RunPurpose.WORK)
    output = await output_of(run, schema)
    if run.options.judge:
        await judge(run, GateName.SPECIALIST)
    run.await_review()
    run.complete(output, stop_reason_of(run))


async def judge(run: ExecutionRun, gate: GateName, sources: Sequence[tuple[str, str]] = ()) -> None:
    """Have the current answer scored once; `sources` are the labels and texts that a report is made of."""
    if run.state.check is not None:
        return
    brief = Brief(task_prompt(run.execution.prompt, run.execution.params))
    run.append(await judge_output(run.context.models, submission_of(run, gate, brief, sources)))


def submission_of(
    run: ExecutionRun, gate: GateName, brief: Brief, sources: Sequence[tuple[str, str]] = ()
) -> Submission:
    """Return the current answer in the form that the judge receives."""
    return Submission(
        agent=run.agent,
        model=run.context.purposes.judge_of(run.answering_model),
        execution_id=run.id,
        brief=brief,
        output=run.state.answer or "",
        gate=gate,
        threshold=run.context.thresholds[gate],
        truncated=run.state.truncated,
        material=JudgeMaterial(
            context=run.cms.text,
            conversation=conversation_text(run.history),
            sources=tuple(sources),
            department_criteria=run.agent.department.quality_criteria,
            agent_criteria=run.agent.quality_criteria,
        ),
    )
