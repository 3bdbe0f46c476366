"""The judge: a model that rates an output. It never invents a score: without an answer there is none."""

import structlog

from app.events.types import QualityCheck
from app.models.json_values import clean_text
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import ModelCaller, ModelRequest, RunPurpose
from app.services.llm.errors import ModelCallFailed, ModelNotConfigured
from app.services.llm.structured import AnswerSchema, StructuredAnswer, ask_structured
from app.services.prompts.fencing import system_message, user_message
from app.services.prompts.judging import JUDGE_SCHEMA, JUDGE_SYSTEM_PROMPT, judge_prompt
from app.services.quality.gates import GateName, pass_gate
from app.services.quality.scoring import calculate_score, usable_dimensions, weights_of

JUDGE_TEMPERATURE = 0.2
JUDGE_MAX_TOKENS = 500
MAX_REASONING_CHARACTERS = 4_000
JUDGE_ANSWER = AnswerSchema("quality_judgement", JUDGE_SCHEMA)

log = structlog.get_logger(__name__)


async def judge_output(
    models: ModelCaller,
    *,
    agent: AgentDefinition,
    model: str,
    execution_id: str,
    request: str,
    output: str,
    gate: GateName,
) -> QualityCheck:
    """Rate an output on six dimensions and hold the department's weighted score against a gate."""
    slug = agent.department.slug
    call = ModelRequest(
        model=model,
        messages=[system_message(JUDGE_SYSTEM_PROMPT), user_message(judge_prompt(slug, request, output))],
        purpose=RunPurpose.JUDGE,
        execution_id=execution_id,
        temperature=JUDGE_TEMPERATURE,
        max_tokens=JUDGE_MAX_TOKENS,
    )
    try:
        answer = await ask_structured(models, call, JUDGE_ANSWER)
    except (ModelCallFailed, ModelNotConfigured) as error:
        log.warning("judge-failed", agentId=agent.agent_id, code=error.code)
        return unscored(agent, gate, f"The judge could not answer: {error.message}")
    return verdict(agent, gate, answer)


def verdict(agent: AgentDefinition, gate: GateName, answer: StructuredAnswer) -> QualityCheck:
    """The event of a judge's answer, with whatever of it can be used."""
    value = answer.value or {}
    dimensions = usable_dimensions(value)
    score = calculate_score(dimensions, weights_of(agent.department.slug))
    reasoning = value.get("reasoning")
    held = pass_gate(gate, score, dimensions, "The judge's answer had no usable dimension.")
    return QualityCheck(
        agent_id=agent.agent_id,
        score=score,
        dimensions=dimensions,
        gate=held.as_json(),
        reasoning=clean_text(reasoning)[:MAX_REASONING_CHARACTERS] if isinstance(reasoning, str) else None,
        model=answer.model,
        usage=answer.usage.as_json(),
        cost_usd=answer.cost_usd,
    )


def unscored(agent: AgentDefinition, gate: GateName, reason: str) -> QualityCheck:
    """The event that says why there is no score."""
    held = pass_gate(gate, None, {}, reason)
    return QualityCheck(agent_id=agent.agent_id, score=None, dimensions={}, gate=held.as_json(), reasoning=reason)
