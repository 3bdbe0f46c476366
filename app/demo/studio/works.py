"""How the demo model writes a specialist's work: thinking aloud with tool calls first, then the whole text."""

import hashlib
import json
import re

from app.demo.studio.arguments import build_arguments
from app.demo.studio.crafts import GENERAL, Craft, craft_of_role
from app.demo.studio.figures import describe_outcomes
from app.demo.studio.premise import Premise, read_premise, shortened_at_word
from app.demo.studio.reading import (
    Fence,
    Role,
    as_object,
    is_last_step,
    materials,
    request_of,
    revision_notes,
    role_of,
    tool_outcomes,
)
from app.demo.studio.story import clash_of, filled, speeches_of, words_of
from app.demo.studio.vocabulary import Draft
from app.kit.json_values import JsonObject

MAX_CALLS = 2
MAX_HEADINGS = 6
MIDPOINT_PAGE = re.compile(r"\|\s*(\d{1,3})\s*\|\s*Midpoint\b")
FIRST_HEADING = re.compile(r"^#{2,3}\s+(.+?)\s*$", re.M)
USUAL_HEADINGS = ("Reading", "Proposal", "Order of work", "Missing")


def wanted_calls(tools: list[JsonObject], draft: Draft, turn: int, most: int) -> list[tuple[str, str, str]]:
    """The calls to make of the first tools offered: id, name and JSON arguments of each."""
    calls: list[tuple[str, str, str]] = []
    for tool in tools:
        function = as_object(as_object(tool).get("function"))
        name = function.get("name")
        if isinstance(name, str) and name and len(calls) < most and name not in {call[1] for call in calls}:
            arguments = json.dumps(build_arguments(function.get("parameters"), draft), ensure_ascii=False)
            digest = hashlib.sha256(f"{turn} {name} {arguments}".encode("utf-8", "replace")).hexdigest()
            calls.append((f"call_{digest[:10]}", name, arguments))
    return calls


def thinking(messages: list[JsonObject], tool_names: list[str]) -> str:
    """What is said beside the first tool calls."""
    craft = craft_of_role(role_of(messages))
    words = words_of(read_premise(request_of(messages)))
    if revision_notes(messages) is not None:
        return f"The note is fair. I have reworked the draft and will run {listed(tool_names)} on it again first."
    built_on = building_on(materials(messages))
    told = filled(craft.thinking, {**words, "tools": listed(tool_names)})
    return f"{built_on} {told}" if built_on else told


def excerpt_of(messages: list[JsonObject], premise: Premise, *, revised: bool) -> str | None:
    """The text of its own that a specialist has measured, or `None` for the story as a whole."""
    is_dialogue = craft_of_role(role_of(messages)).slug == "dialogue"
    return clash_of(premise, revised=revised) if is_dialogue else None


def listed(names: list[str]) -> str:
    """Names as a phrase."""
    return " and ".join(names) if names else "the numbers"


def building_on(brought: list[Fence]) -> str:
    """A sentence on the colleagues' work that came with the assignment."""
    told: list[str] = []
    for fence in brought:
        author = fence.label.rpartition(" ")[2]
        midpoint = MIDPOINT_PAGE.search(fence.text)
        heading = FIRST_HEADING.search(fence.text)
        if midpoint:
            told.append(f"{author} puts the midpoint on page {midpoint[1]}; I keep to that.")
        elif heading:
            told.append(f"I build on {author}'s section “{shortened_at_word(heading[1], 60)}”.")
    return " ".join(told[:3])


def write_work(messages: list[JsonObject]) -> str:
    """The whole work, with what was measured in it; a second draft says what changed."""
    role, premise = role_of(messages), read_premise(request_of(messages))
    craft, notes = craft_of_role(role), revision_notes(messages)
    outcomes = tool_outcomes(messages)
    words = {
        **words_of(premise),
        "figures": describe_outcomes(outcomes),
        "scene_text": clash_of(premise, revised=notes is not None),
        "subtext": subtext_of(premise) if notes is not None else "",
    }
    body = filled(craft.body, words) if craft is not GENERAL else general_body(role, premise, words)
    parts = [body]
    if notes is not None:
        parts.append(changes(craft, premise, notes, measured_again=bool(outcomes)))
    if is_last_step(messages):
        parts.append(
            "*Written at the last step: no further tool could be run, so nothing beyond the figures above is measured.*"
        )
    return "\n\n".join(parts)


def subtext_of(premise: Premise) -> str:
    """The section on what the clash does not say."""
    lines = [line for _, line in speeches_of(premise)]
    return (
        "## Subtext\n"
        f"- **{premise.hero.cue}** wants to hear: you are not part of it. It turns from asking to charging at "
        f"“{lines[4]}”\n"
        f"- **{premise.foil.cue}** wants {premise.hero.first} out of it, and says “{lines[1]}” That fails at "
        f"“{lines[5]}”, where kindness becomes pressure.\n"
        f"- “{lines[7]}” is as near to a confession as {premise.foil.first} will come.\n\n"
    )


def changes(craft: Craft, premise: Premise, notes: str, *, measured_again: bool) -> str:
    """The section that answers a reviewer's notes."""
    told = ["## What changed"]
    if craft.slug == "dialogue":
        told += [
            f"- Cut {premise.foil.cue}'s “{premise.world['blunt']}”",
            "- Added the subtext, with the line at which each tactic turns.",
        ]
    else:
        told.append(f"- The note was: “{shortened_at_word(notes, 160)}” It is answered in the sections above, in full.")
    if measured_again:
        told.append("- The figures were taken again, on this draft.")
    return "\n".join(told)


def general_body(role: Role, premise: Premise, words: dict[str, str]) -> str:
    """The work of a craft that has no page of its own, under the headings that its instructions ask for."""
    asked = [heading for heading in role.headings if len(heading.split()) <= MAX_HEADINGS]
    headings = asked[:MAX_HEADINGS] if len(asked) > 1 else list(USUAL_HEADINGS)
    matter = [
        "$logline. Seen from $craft, the film hangs on one thing: $question Whatever does not help to ask it can go.",
        "I would begin in the $place_1, where the $motif is still innocent, and let every later decision answer to it. "
        "The first sign stands on page $page_catalyst, the turn on page $page_mid; my part has to be ready for both.",
        "$figures",
        "Three steps: settle what $hero does every day, decide what is different about it on page $page_mid, and take "
        "away everything that explains the difference before that. $Object is the place to start.",
        "$hero and $foil must never be treated alike: one works with what is there, the other with what has been "
        "agreed. That holds in the $place_2 as in the $place_5.",
        "- Who decides when $craft and story disagree; I assume the head of department.\n"
        "- Whether the $place_4 exists or has to be made. It changes the cost more than anything above.",
    ]
    last = matter.pop()
    chosen = [matter[place % len(matter)] for place in range(len(headings) - 1)]
    if not any("$figures" in text for text in chosen):
        chosen[-1] = f"{chosen[-1]}\n\n$figures"
    craft = role.specialisation.replace("-", " ") or role.name
    texts = [filled(text, {**words, "craft": craft}) for text in [*chosen, last]]
    return "\n\n".join(f"## {heading}\n{text}" for heading, text in zip(headings, texts, strict=True))
