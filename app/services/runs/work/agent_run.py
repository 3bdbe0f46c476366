"""A run of one agent: the loop, then the judge."""

from app.services.llm.calls import RunPurpose
from app.services.prompts.agents import Brief, task_prompt
from app.services.quality.gates import GateName
from app.services.quality.judge import Submission, judge_output
from app.services.runs.work.agent_loop import stop_reason_of, work
from app.services.runs.work.execution_run import ExecutionRun, text_output


async def run_agent(run: ExecutionRun) -> None:
    """Answer the prompt, have the answer judged unless the client declined that, and end."""
    run.begin()
    run.open_with(task_prompt(run.execution.prompt, run.execution.params))
    await work(run, RunPurpose.WORK)
    if run.options.judge:
        await judge(run, GateName.SPECIALIST)
    run.await_review()
    run.complete(text_output(run.state.answer or ""), stop_reason_of(run))


async def judge(run: ExecutionRun, gate: GateName) -> None:
    """Have the current answer scored, once."""
    if run.state.check is not None:
        return
    run.append(await judge_output(run.context.models, submission_of(run, gate, Brief(run.execution.prompt))))


def submission_of(run: ExecutionRun, gate: GateName, brief: Brief) -> Submission:
    """Returns the current answer in the form that the judge receives."""
    return Submission(
        agent=run.agent,
        model=run.context.purposes.judge_of(run.answering_model),
        execution_id=run.id,
        brief=brief,
        output=run.state.answer or "",
        gate=gate,
        threshold=run.context.thresholds[gate],
        truncated=run.state.truncated,
    )
