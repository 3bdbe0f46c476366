"""A specialist's work as the demo model writes it: tool calls with a remark first, then the complete text."""

import hashlib
import json
import re

from app.demo.studio.arguments import build_arguments
from app.demo.studio.crafts import GENERAL, Craft, craft_of_agent
from app.demo.studio.figures import describe_outcomes
from app.demo.studio.premise import Premise, read_premise, shortened_at_word
from app.demo.studio.reading import (
    Conversation,
    Fence,
    as_object,
    instructed_headings,
    materials,
    request_of,
    tool_results,
)
from app.demo.studio.story import clash_of, filled, speeches_of, words_of
from app.demo.studio.vocabulary import Draft
from app.kit.json_values import JsonObject
from app.services.llm.calls import AgentProfile

MAX_CALLS = 2
MAX_HEADINGS = 6
MIDPOINT_PAGE = re.compile(r"\|\s*(\d{1,3})\s*\|\s*Midpoint\b")
FIRST_HEADING = re.compile(r"^#{2,3}\s+(.+?)\s*$", re.M)
USUAL_HEADINGS = ("Reading", "Proposal", "Order of work", "Missing")


def wanted_calls(tools: list[JsonObject], draft: Draft, turn: int, most: int) -> list[tuple[str, str, str]]:
    """Return calls of the first tools offered, `most` at most: id, name and JSON arguments of each."""
    calls: list[tuple[str, str, str]] = []
    for tool in tools:
        function = as_object(as_object(tool).get("function"))
        name = function.get("name")
        if isinstance(name, str) and name and len(calls) < most and name not in {call[1] for call in calls}:
            arguments = json.dumps(build_arguments(function.get("parameters"), draft), ensure_ascii=False)
            digest = hashlib.sha256(f"{turn} {name} {arguments}".encode("utf-8", "replace")).hexdigest()
            calls.append((f"call_{digest[:10]}", name, arguments))
    return calls


def thinking(conversation: Conversation, tool_names: list[str]) -> str:
    """Return the remark that comes with the first tool calls."""
    craft = craft_of_agent(conversation.agent)
    words = words_of(read_premise(request_of(conversation)))
    if conversation.revision_notes is not None:
        return f"The note is fair. I have reworked the draft and will run {listed(tool_names)} on it again first."
    built_on = building_on(materials(conversation))
    remark = filled(craft.thinking, {**words, "tools": listed(tool_names)})
    return f"{built_on} {remark}" if built_on else remark


def excerpt_of(conversation: Conversation, premise: Premise, *, revised: bool) -> str | None:
    """Return the text that a specialist passes to tools, or `None` for the story as a whole."""
    is_dialogue = craft_of_agent(conversation.agent).slug == "dialogue"
    return clash_of(premise, revised=revised) if is_dialogue else None


def listed(names: list[str]) -> str:
    """Return names joined with "and"."""
    return " and ".join(names) if names else "the numbers"


def building_on(brought: list[Fence]) -> str:
    """Return up to three sentences on the other agents' work that came with the assignment."""
    sentences: list[str] = []
    for fence in brought:
        author = fence.label.rpartition(" ")[2]
        midpoint = MIDPOINT_PAGE.search(fence.text)
        heading = FIRST_HEADING.search(fence.text)
        if midpoint:
            sentences.append(f"{author} puts the midpoint on page {midpoint[1]}; I keep to that.")
        elif heading:
            sentences.append(f"I build on {author}'s section “{shortened_at_word(heading[1], 60)}”.")
    return " ".join(sentences[:3])


def write_work(conversation: Conversation) -> str:
    """Return the complete work with its measurements; a revised draft lists the changes."""
    agent, premise = conversation.agent, read_premise(request_of(conversation))
    craft, notes = craft_of_agent(agent), conversation.revision_notes
    outcomes = tool_results(conversation)
    words = {
        **words_of(premise),
        "figures": describe_outcomes(outcomes),
        "scene_text": clash_of(premise, revised=notes is not None),
        "subtext": subtext_of(premise) if notes is not None else "",
    }
    body = (
        filled(craft.body, words)
        if craft is not GENERAL
        else general_body(agent, instructed_headings(conversation), words)
    )
    parts = [body]
    if notes is not None:
        parts.append(changes(craft, premise, notes, measured_again=bool(outcomes)))
    if conversation.metadata.is_last_step:
        parts.append(
            "*Written at the last step: no further tool could be run, so nothing beyond the figures above is measured.*"
        )
    return "\n\n".join(parts)


def subtext_of(premise: Premise) -> str:
    """Return the section on the subtext of the clash."""
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
    """Return the section that answers a reviewer's notes."""
    lines = ["## What changed"]
    if craft.slug == "dialogue":
        lines += [
            f"- Cut {premise.foil.cue}'s “{premise.world['blunt']}”",
            "- Added the subtext, with the line at which each tactic turns.",
        ]
    else:
        lines.append(
            f"- The note was: “{shortened_at_word(notes, 160)}” It is answered in the sections above, in full."
        )
    if measured_again:
        lines.append("- The figures were taken again, on this draft.")
    return "\n".join(lines)


def general_body(agent: AgentProfile, headings: list[str], words: dict[str, str]) -> str:
    """Return the work of a craft without a template, under the headings that the agent's instructions ask for."""
    asked = [heading for heading in headings if len(heading.split()) <= MAX_HEADINGS]
    chosen_headings = asked[:MAX_HEADINGS] if len(asked) > 1 else list(USUAL_HEADINGS)
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
    chosen = [matter[place % len(matter)] for place in range(len(chosen_headings) - 1)]
    if not any("$figures" in text for text in chosen):
        chosen[-1] = f"{chosen[-1]}\n\n$figures"
    craft = agent.specialization.replace("-", " ") or agent.name
    texts = [filled(text, {**words, "craft": craft}) for text in [*chosen, last]]
    return "\n\n".join(f"## {heading}\n{text}" for heading, text in zip(chosen_headings, texts, strict=True))
