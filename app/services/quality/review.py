"""The head's review of a specialist's work: approved, rejected, or sent back with notes."""

import structlog

from app.events.types import ReviewStatusChanged
from app.kit.json_values import JsonObject, clean_text
from app.models.agent_execution import ReviewStatus
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import CallMetadata, ModelCaller, ModelRequest, RunPurpose
from app.services.llm.failures.errors import ModelCallFailed, ModelNotConfigured, calls_in
from app.services.llm.messages.structured_output import AnswerSchema, ask_structured
from app.services.prompts.agents import Brief, agent_profile, agent_system_prompt
from app.services.prompts.fences import CUT_NOTE, system_message, user_message
from app.services.prompts.heads import REVIEW_SCHEMA, review_context, review_prompt

MAX_NOTES_CHARACTERS = 20_000
REVIEW_ANSWER = AnswerSchema("review", REVIEW_SCHEMA)

log = structlog.get_logger(__name__)


def needs_review(agent: AgentDefinition, quality_score: float | None) -> bool:
    """Return whether the head reviews: if the agent requires it, or if the score (0 to 100) is too low."""
    return agent.requires_review or (quality_score is not None and quality_score < agent.quality_threshold)


def judgment_of(
    agent: AgentDefinition, quality_score: float | None, check: JsonObject | None, *, truncated: bool = False
) -> str:
    """Return the judge's verdict for the reviewer, and whether the draft is complete."""
    note = f"About the draft: {CUT_NOTE} " if truncated else ""
    if quality_score is None or check is None:
        return f"{note}The judge gave no score."
    issues = "; ".join(check["gate"]["issues"]) or "none"
    return (
        f"{note}The judge's score: {quality_score:g} of 100 (threshold {agent.quality_threshold:g}). Issues: {issues}."
    )


async def review_work(
    models: ModelCaller,
    *,
    head: AgentDefinition,
    model: str,
    specialist: AgentDefinition,
    context: str = "",
    execution_id: str,
    brief: Brief,
    work: str,
    draft: int,
    judgment: str,
) -> ReviewStatusChanged:
    """Ask the head for a decision on draft number `draft`; `context` is the text of the project and the episode.

    If the head gives no usable answer, even after a repair, the status stays `pending` and the notes say why.
    """
    call = ModelRequest(
        model=model,
        messages=[
            system_message(agent_system_prompt(head, context=context)),
            user_message(review_prompt(specialist, brief, work, draft, judgment)),
        ],
        purpose=RunPurpose.REVIEW,
        shared=review_context(brief),
        execution_id=execution_id,
        metadata=CallMetadata(agent_profile(head), reviewed=agent_profile(specialist), draft=draft),
    )

    def decided(status: ReviewStatus, notes: str, **spent: object) -> ReviewStatusChanged:
        return ReviewStatusChanged.model_validate(
            {
                "agentId": specialist.agent_id,
                "status": status.value,
                "notes": notes,
                "reviewedBy": head.agent_id,
                "retryCount": draft - 1,
                **spent,
            }
        )

    try:
        answer = await ask_structured(models, call, REVIEW_ANSWER)
    except (ModelCallFailed, ModelNotConfigured) as error:
        log.warning("review-failed", agentId=specialist.agent_id, code=error.code)
        return decided(ReviewStatus.PENDING, f"The head could not review: {error.message}", **calls_in(error))
    spent = answer.as_fields()
    if not answer.valid or answer.value is None:
        return decided(ReviewStatus.PENDING, "The head's answer was not a decision.", **spent)
    return decided(
        ReviewStatus(answer.value["decision"]), clean_text(answer.value["notes"])[:MAX_NOTES_CHARACTERS], **spent
    )
