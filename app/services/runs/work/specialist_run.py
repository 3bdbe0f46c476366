"""A specialist's part of a department run: work, judgment and review, repeated while the head asks for revisions."""

import asyncio

from app.models.agent_execution import ReviewStatus, StopReason
from app.services.llm.calls import RunPurpose
from app.services.prompts.agents import brief_of, task_prompt
from app.services.quality.batch_judge import BatchJudge
from app.services.quality.gates import GateName
from app.services.quality.review import judgment_of, needs_review, review_work
from app.services.runs.outputs.formatting import compile_schema_of, output_of
from app.services.runs.work.agent_loop import stop_reason_of, work
from app.services.runs.work.agent_run import submission_of
from app.services.runs.work.execution_run import ExecutionRun


async def run_specialist(run: ExecutionRun, head: ExecutionRun, batch_judge: BatchJudge) -> None:
    """Continue from the specialist's state until its work is approved, rejected, or out of revisions."""
    run.begin()
    schema = await compile_schema_of(run)
    run.open_with(task_prompt(run.execution.prompt, None))
    while True:
        began = asyncio.get_running_loop().time()
        with batch_judge.at_work():
            await work(run, RunPurpose.WORK)
        if run.state.check is None:
            worked_seconds = asyncio.get_running_loop().time() - began
            run.append(
                await batch_judge.judge(
                    submission_of(run, GateName.SPECIALIST, brief_of(run.execution.prompt)), worked_seconds
                )
            )
        if not run.state.is_reviewed and (is_revised(run) or needs_review(run.agent, run.state.quality_score)):
            await review(run, head)
        if run.state.answer is not None:
            break
    run.complete(await output_of(run, schema), outcome_of(run))


def is_revised(run: ExecutionRun) -> bool:
    """Return whether the draft is a revision: its reviewer decides on it, whatever its score."""
    return run.state.retry_count > 0


async def review(run: ExecutionRun, head: ExecutionRun) -> None:
    """Have the head decide on the current draft."""
    decision = await review_work(
        run.context.models,
        head=head.agent,
        model=head.model_for(RunPurpose.REVIEW),
        context=head.cms.text,
        specialist=run.agent,
        execution_id=run.id,
        brief=brief_of(run.execution.prompt),
        work=run.state.answer or "",
        draft=run.state.retry_count + 1,
        judgment=judgment_of(run.agent, run.state.quality_score, run.state.check, truncated=run.state.truncated),
    )
    run.append(decision, **run.review_changes(decision.status, decision.notes, head.agent))


def outcome_of(run: ExecutionRun) -> StopReason:
    """Return why the specialist stopped."""
    if run.state.review_status is ReviewStatus.REJECTED:
        return StopReason.REJECTED
    return stop_reason_of(run)
