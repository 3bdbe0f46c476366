"""The prompts of a head: plan, review, report."""

from dataclasses import dataclass

from app.kit.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition
from app.services.prompts.agents import Brief
from app.services.prompts.fences import CUT_NOTE, fenced, shortened

REQUEST = "REQUEST"
WORK = "WORK OF"
MAX_WORK_CHARACTERS = 20_000


@dataclass(frozen=True)
class SpecialistWork:
    """One specialist's work as input of the report; `quality_score` is 0 to 100."""

    agent_id: str
    name: str
    status: str
    review_status: str
    quality_score: float | None
    text: str
    problem: str | None = None
    truncated: bool = False


def plan_prompt(request: str, specialists: tuple[AgentDefinition, ...]) -> str:
    """Ask which specialists work, with what instructions, which after which."""
    return f"{plan_context(specialists)}\n\nThe request:\n{fenced(REQUEST, request)}"


def plan_context(specialists: tuple[AgentDefinition, ...]) -> str:
    """Return the beginning of a plan's prompt, which all runs of a department share."""
    crew = "\n".join(f"- {line}" for line in map(describe_specialist, specialists))
    return (
        "Plan the work on a request. Choose the specialists whose craft the request needs. Give each one instructions "
        "of its own: what to deliver, in what form, with what limits. Each one is given the request, so do not repeat "
        "it. Name under dependsOn the specialists whose output it must have first; leave it empty where work can go "
        "on at the same time. Answer with the plan as a JSON object.\n\n"
        f"Your specialists:\n{crew}"
    )


def describe_specialist(agent: AgentDefinition) -> str:
    """Return a line on a specialist for its head."""
    craft = f" Specialisation: {agent.specialization}." if agent.specialization else ""
    tools = f" Tools: {', '.join(tool.name for tool in agent.tools)}." if agent.tools else ""
    return f"{agent.agent_id}: {agent.name}. {agent.description}{craft}{tools}"


def plan_schema(specialists: tuple[AgentDefinition, ...]) -> JsonObject:
    """Return the JSON schema of a plan over these specialists."""
    one_of_them = {"type": "string", "enum": [agent.agent_id for agent in specialists]}
    assignment = {
        "type": "object",
        "properties": {
            "agentId": one_of_them,
            "instructions": {"type": "string"},
            "dependsOn": {"type": "array", "items": one_of_them},
        },
        "required": ["agentId", "instructions", "dependsOn"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"assignments": {"type": "array", "items": assignment}, "rationale": {"type": "string"}},
        "required": ["assignments", "rationale"],
        "additionalProperties": False,
    }


REVIEW_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "decision": {"type": "string", "enum": ["approved", "rejected", "revision-needed"]},
        "notes": {"type": "string"},
    },
    "required": ["decision", "notes"],
    "additionalProperties": False,
}


def review_prompt(agent: AgentDefinition, brief: Brief, work: str, draft: int, judgment: str) -> str:
    """Ask for a decision on a specialist's work; `draft` counts from 1."""
    task = "" if brief.task is None else f"\n\nThe assignment:\n{fenced('ASSIGNMENT', brief.task)}"
    return (
        f"{review_context(brief)}{task}\n\n"
        f"This is draft {draft} by {agent.name} ({agent.agent_id}):\n"
        f"{fenced(f'{WORK} {agent.agent_id}', shortened(work, MAX_WORK_CHARACTERS))}\n\n{judgment}"
    )


def review_context(brief: Brief) -> str:
    """Return the beginning of a review's prompt, which all reviews of a department run share."""
    return (
        "Review the work of one of your specialists. "
        "Decide: approved when it can go into the report, revision-needed with notes that say exactly what to change, "
        "rejected when a revision cannot save it. Answer with the JSON object of your decision and notes.\n\n"
        f"The request:\n{fenced(REQUEST, brief.request)}"
    )


def report_prompt(request: str, works: list[SpecialistWork]) -> str:
    """Ask for the department's report."""
    if not works:
        return (
            "Your department has no specialists for this request, so do the work yourself. "
            "Write the department's report in Markdown. Begin with a section '## Summary' of at most five sentences."
            f"\n\nThe request:\n{fenced(REQUEST, request)}"
        )
    parts = "\n\n".join(map(describe_work, works))
    return (
        "Write your department's report on a request. "
        "Write in Markdown. Begin with a section '## Summary' of at most five sentences, then bring the specialists' "
        "work together into one result, say where they disagree and what you chose, name whose work is missing, failed "
        "or was not approved, and end with what should happen next. Invent nothing that is not in the work below.\n\n"
        f"The request:\n{fenced(REQUEST, request)}\n\n{parts}"
    )


def describe_work(work: SpecialistWork) -> str:
    """One specialist's part, for the report."""
    score = "no score" if work.quality_score is None else f"score {work.quality_score:g} of 100"
    title = f"{work.name} ({work.agent_id}): {work.status}, review {work.review_status}, {score}."
    if work.problem:
        return f"{title} {work.problem}"
    if work.truncated:
        title = f"{title} {CUT_NOTE}"
    return f"{title}\n{fenced(f'{WORK} {work.agent_id}', shortened(work.text, MAX_WORK_CHARACTERS))}"
