"""A head's plan as the demo model writes it: the specialists, their instructions and their order."""

import re
from dataclasses import dataclass

from app.demo.studio.crafts import GENERAL, Craft, craft_of
from app.demo.studio.premise import read_premise
from app.demo.studio.reading import Conversation, as_list, as_object, asks, request_of, without_fences
from app.demo.studio.story import filled, words_of
from app.kit.json_values import JsonObject

SPECIALIST_LINE = re.compile(
    r"^- (?P<agent_id>[\w.-]+): (?P<name>[^\n]*?)\. (?P<description>[^\n]*?)"
    r"(?: Specialisation: (?P<specialization>[^\n]*?)\.)?(?: Tools: (?P<tools>[^\n]*?)\.)?[ ]*$",
    re.M,
)
MOST_ASSIGNMENTS = 4


@dataclass(frozen=True)
class Specialist:
    """A specialist as the plan's prompt describes it."""

    agent_id: str
    name: str
    tools: str
    craft: Craft


def specialists_of(conversation: Conversation, schema: JsonObject | None) -> list[Specialist]:
    """Return the specialists that the schema allows, with the prompt's description of each."""
    prompt = without_fences("\n".join(asks(conversation)))
    described = {found["agent_id"]: specialist(found) for found in SPECIALIST_LINE.finditer(prompt)}
    allowed = ids_allowed(schema)
    unknown = {agent_id: Specialist(agent_id, agent_id, "", craft_of(agent_id)) for agent_id in allowed}
    return [{**unknown, **described}[agent_id] for agent_id in (allowed or described)]


def specialist(found: re.Match[str]) -> Specialist:
    """Return the specialist that a line of the prompt describes."""
    identity = f"{found['agent_id']} {found['name']} {found['specialization'] or ''}"
    return Specialist(found["agent_id"], found["name"], found["tools"] or "", craft_of(identity, found["description"]))


def ids_allowed(schema: JsonObject | None, rows: str = "assignments") -> list[str]:
    """Return the agent ids that a schema allows in its rows: a plan's assignments or a batch's verdicts."""
    place: JsonObject = as_object(schema)
    for step in ("properties", rows, "items", "properties", "agentId"):
        place = as_object(place.get(step))
    return [agent_id for agent_id in as_list(place.get("enum")) if isinstance(agent_id, str)]


def write_plan(conversation: Conversation, schema: JsonObject | None) -> JsonObject:
    """Return a plan for up to four specialists; those whose work others build on come first."""
    specialists = specialists_of(conversation, schema)
    words = words_of(read_premise(request_of(conversation)))
    chosen = in_order(specialists)[:MOST_ASSIGNMENTS]
    waits = dependencies(chosen)
    assignments = [
        {
            "agentId": specialist.agent_id,
            "instructions": instructions(specialist, words),
            "dependsOn": waits[specialist.agent_id],
        }
        for specialist in chosen
    ]
    return {"assignments": assignments, "rationale": rationale(chosen, waits, words, conversation.agent.department)}


def in_order(specialists: list[Specialist]) -> list[Specialist]:
    """Return specialists by how many of the others' crafts they build on; otherwise as listed."""
    present = {specialist.craft.slug for specialist in specialists}
    return sorted(specialists, key=lambda specialist: sum(slug in present for slug in specialist.craft.after))


def dependencies(chosen: list[Specialist]) -> dict[str, list[str]]:
    """Return the specialists that each one waits for: earlier ones only, so that there is no cycle.

    With several specialists, at least the last one waits.
    """
    waits: dict[str, list[str]] = {}
    for place, specialist in enumerate(chosen):
        before = chosen[:place]
        waits[specialist.agent_id] = [other.agent_id for other in before if other.craft.slug in specialist.craft.after]
    if len(chosen) > 1 and not any(waits.values()):
        waits[chosen[-1].agent_id] = [chosen[0].agent_id]
    return waits


def instructions(specialist: Specialist, words: dict[str, str]) -> str:
    """Return the head's instructions for a specialist."""
    check = f"Before you name a figure, run {specialist.tools.replace(', ', ' or ')}." if specialist.tools else ""
    assignment = filled(specialist.craft.assignment, {**words, "check": check})
    wishes = f" The client's words for the whole: {words['wishes']}." if specialist.craft is GENERAL else ""
    return " ".join(f"{assignment}{wishes} 350 words at most; close with what the material leaves open.".split())


def rationale(chosen: list[Specialist], waits: dict[str, list[str]], words: dict[str, str], department: str) -> str:
    """Return the reasons for the plan, in two or three sentences."""
    if not chosen:
        return f"There is no one to assign in the {department}, so the head answers alone."
    first = [specialist.name for specialist in chosen if not waits[specialist.agent_id]]
    later = [specialist.name for specialist in chosen if waits[specialist.agent_id]]
    sentences = [f"The request asks for {words['wishes']}, and all of it hangs on one question: {words['question']}"]
    sentences.append(f"{phrase(first)} can start at once{', side by side' if len(first) > 1 else ''}.")
    if later:
        sentences.append(
            f"{phrase(later)} {'waits' if len(later) == 1 else 'wait'} until there is something to build on."
        )
    return " ".join(sentences)


def phrase(names: list[str]) -> str:
    """Return names as a list within a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
