"""The judge: a model that rates an output. Without a usable answer the score stays unset."""

from dataclasses import dataclass, replace

import structlog

from app.events.types import QualityCheck
from app.kit.json_values import clean_text
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import ModelCaller, ModelRequest, RunPurpose
from app.services.llm.failures.errors import AnswerNotCached, ModelCallFailed, ModelNotConfigured, calls_in
from app.services.llm.messages.structured_output import AnswerSchema, StructuredAnswer, ask_structured
from app.services.prompts.agents import Brief
from app.services.prompts.fences import system_message, user_message
from app.services.prompts.judge import (
    JUDGE_SCHEMA,
    JUDGE_SYSTEM_PROMPT,
    JUDGE_VERSION,
    NO_MATERIAL,
    JudgeMaterial,
    judge_context,
    judge_opening,
    judge_prompt,
)
from app.services.quality.gates import GateName, pass_gate
from app.services.quality.scores import calculate_score, usable_dimensions, weights_of

JUDGE_TEMPERATURE = 0.2
JUDGE_MAX_TOKENS = 500
MAX_REASONING_CHARACTERS = 4_000
JUDGE_ANSWER = AnswerSchema("quality_judgment", JUDGE_SCHEMA)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Submission:
    """An output to be judged, with its agent, its brief, and the gate and `threshold` that it must pass."""

    agent: AgentDefinition
    model: str
    execution_id: str
    brief: Brief
    output: str
    gate: GateName
    threshold: float
    truncated: bool = False
    """Whether the output stopped at its model's output limit."""
    material: JudgeMaterial = NO_MATERIAL


def judge_request(submission: Submission) -> ModelRequest:
    """Return the call that rates an output by itself."""
    slug, brief, material = submission.agent.department.slug, submission.brief, submission.material
    prompt = judge_prompt(slug, brief, submission.output, truncated=submission.truncated, material=material)
    shared = judge_context(slug, material) if material.context else None
    if brief.task is not None or material.sources:
        shared = judge_opening(slug, brief, material)
    return ModelRequest(
        model=submission.model,
        messages=[system_message(JUDGE_SYSTEM_PROMPT), user_message(prompt)],
        purpose=RunPurpose.JUDGE,
        shared=shared,
        execution_id=submission.execution_id,
        response_format=JUDGE_ANSWER.response_format,
        temperature=JUDGE_TEMPERATURE,
        max_tokens=JUDGE_MAX_TOKENS,
    )


async def find_verdict(models: ModelCaller, submission: Submission) -> QualityCheck | None:
    """Return the verdict that the response cache has on an equal output with an equal task, if any."""
    request = replace(judge_request(submission), only_cached=True)
    try:
        return verdict(submission, await ask_structured(models, request, JUDGE_ANSWER))
    except (AnswerNotCached, ModelCallFailed, ModelNotConfigured):
        return None


async def judge_output(models: ModelCaller, submission: Submission) -> QualityCheck:
    """Rate an output on six dimensions and check the department's weighted score against a gate."""
    try:
        answer = await ask_structured(models, judge_request(submission), JUDGE_ANSWER)
    except (ModelCallFailed, ModelNotConfigured) as error:
        log.warning("judge-failed", agentId=submission.agent.agent_id, code=error.code)
        check = unscored(submission, f"The judge could not answer: {error.message}")
        return check.model_copy(update=calls_in(error))
    return verdict(submission, answer)


def verdict(submission: Submission, answer: StructuredAnswer) -> QualityCheck:
    """Build the event of a judge's answer from its usable parts."""
    value = answer.value or {}
    department = submission.agent.department
    dimensions = usable_dimensions(value)
    score = calculate_score(dimensions, weights_of(department.slug, department.stored_weights))
    reasoning = value.get("reasoning")
    reason = "The judge's answer had no usable dimension."
    gate = pass_gate(submission.gate, submission.threshold, score, dimensions, reason)
    return QualityCheck(
        agent_id=submission.agent.agent_id,
        score=score,
        dimensions=dimensions,
        gate=gate.as_json(),
        reasoning=clean_text(reasoning)[:MAX_REASONING_CHARACTERS] if isinstance(reasoning, str) else None,
        judge_version=JUDGE_VERSION,
        **answer.as_fields(),
    )


def unscored(submission: Submission, reason: str) -> QualityCheck:
    """Build the event that says why there is no score."""
    return QualityCheck(
        agent_id=submission.agent.agent_id,
        score=None,
        dimensions={},
        gate=pass_gate(submission.gate, submission.threshold, None, {}, reason).as_json(),
        reasoning=reason,
        judge_version=JUDGE_VERSION,
        model=submission.model,
    )
