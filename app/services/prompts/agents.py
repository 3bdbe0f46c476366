"""The prompts of an agent: its identity, its task, and a reviewer's change requests.

Stable text comes first and varying text last, so that a provider's prompt cache hits.
"""

import json
from typing import Any

from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import AgentProfile
from app.services.prompts.fences import CUT_NOTE, FENCE_RULE, fenced, shortened

PARAMS = "PARAMETERS"
REQUEST = "REQUEST"
COLLEAGUE = "OUTPUT OF"
MAX_COLLEAGUE_CHARACTERS = 20_000


def agent_profile(agent: AgentDefinition) -> AgentProfile:
    """The agent as `agent_system_prompt` introduces it."""
    return AgentProfile(
        agent.agent_id, agent.name, agent.department.name, agent.specialization or "", tuple(agent.skills)
    )


def agent_system_prompt(agent: AgentDefinition) -> str:
    """The agent's own instructions, then its place in the house."""
    place = [f"You are {agent.name} ({agent.agent_id}) of the {agent.department.name}."]
    if agent.specialization:
        place.append(f"Specialisation: {agent.specialization}.")
    if agent.skills:
        place.append(f"Skills: {', '.join(agent.skills)}.")
    return f"{agent.instructions}\n\n---\n{' '.join(place)}\n{FENCE_RULE}"


def task_prompt(prompt: str, params: Any) -> str:  # noqa: ANN401 - any JSON value
    """An execution's prompt with its parameters."""
    if not params:
        return prompt
    return f"{prompt}\n\n{fenced(PARAMS, json.dumps(params, ensure_ascii=False, sort_keys=True))}"


def assignment_prompt(
    request: str, instructions: str, outputs: dict[str, str], truncated: frozenset[str] = frozenset[str]()
) -> str:
    """Returns a specialist's prompt: the assignment, the client's request, and the outputs it builds on.

    `truncated` names the agents whose model did not finish its output.
    """
    parts = [f"Your assignment:\n{instructions}", f"It serves this request:\n{fenced(REQUEST, request)}"]
    for agent_id, output in outputs.items():
        note = f" {CUT_NOTE}" if agent_id in truncated else ""
        text = fenced(f"{COLLEAGUE} {agent_id}", shortened(output, MAX_COLLEAGUE_CHARACTERS))
        parts.append(f"Build on this:{note}\n{text}")
    return "\n\n".join(parts)


def revision_prompt(notes: str, *, by_person: bool = False) -> str:
    """Returns the prompt that sends a specialist back to work."""
    who = "A person who read your work" if by_person else "Your head of department"
    return f"{who} asks for a revision:\n{notes}\n\nAnswer with the whole revised work."


def last_step_prompt() -> str:
    """Returns the prompt of an agent's last step, when it can no longer call tools."""
    return "This is your last step: no more tools. Answer now with what you have, and say what is missing."
