"""The prompts of an agent: its identity, its task, and a reviewer's change requests.

Here and in the other prompts, text that many calls share comes first: instructions, then context, then the task. A
provider's prompt cache recognizes equal beginnings, and no prompt contains a date or an id of a run.
"""

import json
from dataclasses import dataclass
from typing import Any, cast

from app.kit.json_values import JsonObject
from app.services.catalog.definitions import AgentDefinition
from app.services.llm.calls import AgentProfile
from app.services.prompts.fences import CUT_NOTE, FENCE_RULE, excerpt, fenced, leading_fence
from app.services.prompts.formats import schema_instruction

PARAMS = "PARAMETERS"
REQUEST = "REQUEST"
COLLEAGUE = "OUTPUT OF"
HANDED_ON_CHARACTERS = 6_000
"""The characters of an output that an agent is shown which builds on it."""
EXCERPT_CHARACTERS = 1_200
"""The characters of such an output that the judge and the reviewer of that agent's work are shown."""
CONTEXT_LINE = "The client's request:\n"
MATERIAL_LINE = "\n\nBuild on this:"
TASK_LINE = "\n\nYour assignment, which serves this request:\n"


def agent_profile(agent: AgentDefinition) -> AgentProfile:
    """Return the agent as `agent_system_prompt` introduces it."""
    return AgentProfile(
        agent.agent_id, agent.name, agent.department.name, agent.specialization or "", tuple(agent.skills)
    )


def agent_system_prompt(agent: AgentDefinition, schema: object = None, context: str = "") -> str:
    """Return the agent's own instructions, its place in the house, the schema of its answer, and the CMS's context."""
    place = [f"You are {agent.name} ({agent.agent_id}) of the {agent.department.name}."]
    if agent.specialization:
        place.append(f"Specialisation: {agent.specialization}.")
    if agent.skills:
        place.append(f"Skills: {', '.join(agent.skills)}.")
    form = f"\n\n{schema_instruction(cast('JsonObject', schema))}" if isinstance(schema, dict) else ""
    about = f"\n\n{context}" if context else ""
    return f"{agent.instructions}\n\n---\n{' '.join(place)}\n{FENCE_RULE}{form}{about}"


def task_prompt(prompt: str, params: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return an execution's prompt with its parameters."""
    if not params:
        return prompt
    return f"{prompt}\n\n{fenced(PARAMS, json.dumps(params, ensure_ascii=False, sort_keys=True))}"


def assignment_prompt(
    request: str,
    instructions: str,
    outputs: dict[str, str],
    truncated: frozenset[str] = frozenset[str](),
    *,
    handed_on: int = HANDED_ON_CHARACTERS,
) -> str:
    """Return a specialist's prompt: the client's request, the outputs it builds on, and the assignment.

    `truncated` names the agents whose model did not finish its output; `handed_on` is the number of characters of an
    output that the specialist is shown.
    """
    parts = [f"{CONTEXT_LINE}{fenced(REQUEST, request)}"]
    for agent_id, output in outputs.items():
        note = f" {CUT_NOTE}" if agent_id in truncated else ""
        parts.append(f"{MATERIAL_LINE}{note}\n{fenced(f'{COLLEAGUE} {agent_id}', excerpt(output, handed_on))}")
    return "".join([*parts, f"{TASK_LINE}{instructions}"])


@dataclass(frozen=True)
class Brief:
    """A task as its judge and its reviewer read it: the request behind it, and the task itself."""

    request: str
    task: str | None = None
    """The assignment with excerpts of the outputs that it builds on; `None` if the request is the task."""


def brief_of(prompt: str) -> Brief:
    """Return the parts of an assignment's prompt; any other prompt is a request.

    The parts are read from the front, each up to the end of its own fence, so that no part can pass for another.
    """
    if not prompt.startswith(CONTEXT_LINE):
        return Brief(prompt)
    found = leading_fence(prompt.removeprefix(CONTEXT_LINE), REQUEST)
    if found is None:
        return Brief(prompt)
    _, request, rest = found
    parts: list[str] = []
    while rest.startswith(MATERIAL_LINE):
        line, _, following = rest.removeprefix("\n\n").partition("\n")
        material = leading_fence(following, rf"{COLLEAGUE} [^<>\n]+")
        if material is None:
            return Brief(prompt)
        label, output, rest = material
        parts.append(f"{line}\n{fenced(label, excerpt(output, EXCERPT_CHARACTERS))}")
    if not rest.startswith(TASK_LINE):
        return Brief(prompt)
    return Brief(request, "\n\n".join([*parts, rest.removeprefix(TASK_LINE)]))


def revision_prompt(notes: str, *, by_person: bool = False) -> str:
    """Return the prompt that sends a specialist back to work."""
    who = "A person who read your work" if by_person else "Your head of department"
    return f"{who} asks for a revision:\n{notes}\n\nAnswer with the whole revised work."


def last_step_prompt() -> str:
    """Return the prompt of an agent's last step, when it can no longer call tools."""
    return "This is your last step: no more tools. Answer now with what you have, and say what is missing."
