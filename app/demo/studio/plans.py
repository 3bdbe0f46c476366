"""How the demo model plans as a head of department: who works, with what instructions, after whom."""

import re
from dataclasses import dataclass

from app.demo.studio.crafts import GENERAL, Craft, craft_of
from app.demo.studio.premise import read_premise
from app.demo.studio.reading import Role, as_list, as_object, asks, request_of, without_fences
from app.demo.studio.story import filled, words_of
from app.kit.json_values import JsonObject

CREW_LINE = re.compile(
    r"^- (?P<agent_id>[\w.-]+): (?P<name>[^\n]*?)\. (?P<description>[^\n]*?)"
    r"(?: Specialisation: (?P<specialisation>[^\n]*?)\.)?(?: Tools: (?P<tools>[^\n]*?)\.)?[ ]*$",
    re.M,
)
MOST_ASSIGNMENTS = 4


@dataclass(frozen=True)
class Colleague:
    """A specialist as the plan's prompt describes it."""

    agent_id: str
    name: str
    tools: str
    craft: Craft


def crew_of(messages: list[JsonObject], schema: JsonObject | None) -> list[Colleague]:
    """The specialists to choose from: those the schema allows, as far as the prompt describes them."""
    every = asks(messages)
    described = {found["agent_id"]: colleague(found) for found in CREW_LINE.finditer(without_fences("\n".join(every)))}
    allowed = ids_allowed(schema)
    unknown = {agent_id: Colleague(agent_id, agent_id, "", craft_of(agent_id)) for agent_id in allowed}
    return [{**unknown, **described}[agent_id] for agent_id in (allowed or described)]


def colleague(found: re.Match[str]) -> Colleague:
    """A specialist from its line."""
    identity = f"{found['agent_id']} {found['name']} {found['specialisation'] or ''}"
    return Colleague(found["agent_id"], found["name"], found["tools"] or "", craft_of(identity, found["description"]))


def ids_allowed(schema: JsonObject | None, rows: str = "assignments") -> list[str]:
    """The agent ids that a schema allows in its rows: a plan's assignments, a batch's verdicts."""
    place: JsonObject = as_object(schema)
    for step in ("properties", rows, "items", "properties", "agentId"):
        place = as_object(place.get(step))
    return [agent_id for agent_id in as_list(place.get("enum")) if isinstance(agent_id, str)]


def write_plan(messages: list[JsonObject], schema: JsonObject | None, role: Role) -> JsonObject:
    """The plan over the crew: up to four specialists, those first whose work others build on."""
    crew = crew_of(messages, schema)
    words = words_of(read_premise(request_of(messages)))
    chosen = in_order(crew)[:MOST_ASSIGNMENTS]
    waits = dependencies(chosen)
    assignments = [
        {
            "agentId": colleague.agent_id,
            "instructions": instructions(colleague, words),
            "dependsOn": waits[colleague.agent_id],
        }
        for colleague in chosen
    ]
    return {"assignments": assignments, "rationale": rationale(chosen, waits, words, role)}


def in_order(crew: list[Colleague]) -> list[Colleague]:
    """The crew with those first who wait for nobody in it; else as listed."""
    present = {colleague.craft.slug for colleague in crew}
    return sorted(crew, key=lambda colleague: sum(slug in present for slug in colleague.craft.after))


def dependencies(chosen: list[Colleague]) -> dict[str, list[str]]:
    """Whom each waits for; only earlier ones, so that no circle can arise, and at least once when there are several."""
    waits: dict[str, list[str]] = {}
    for place, one in enumerate(chosen):
        before = chosen[:place]
        waits[one.agent_id] = [other.agent_id for other in before if other.craft.slug in one.craft.after]
    if len(chosen) > 1 and not any(waits.values()):
        waits[chosen[-1].agent_id] = [chosen[0].agent_id]
    return waits


def instructions(one: Colleague, words: dict[str, str]) -> str:
    """What the head asks of one specialist."""
    check = f"Before you name a figure, run {one.tools.replace(', ', ' or ')}." if one.tools else ""
    told = filled(one.craft.assignment, {**words, "check": check})
    wishes = f" The client's words for the whole: {words['wishes']}." if one.craft is GENERAL else ""
    return " ".join(f"{told}{wishes} 350 words at most; close with what the material leaves open.".split())


def rationale(chosen: list[Colleague], waits: dict[str, list[str]], words: dict[str, str], role: Role) -> str:
    """Why the plan is as it is, in two or three sentences."""
    if not chosen:
        return f"There is nobody to assign in the {role.department}, so the head answers alone."
    first = [one.name for one in chosen if not waits[one.agent_id]]
    later = [one.name for one in chosen if waits[one.agent_id]]
    told = [f"The request asks for {words['wishes']}, and all of it hangs on one question: {words['question']}"]
    told.append(f"{phrase(first)} can start at once{', side by side' if len(first) > 1 else ''}.")
    if later:
        told.append(f"{phrase(later)} {'waits' if len(later) == 1 else 'wait'} until there is something to build on.")
    return " ".join(told)


def phrase(names: list[str]) -> str:
    """Names as a list in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
