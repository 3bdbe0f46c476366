"""What the demo model understands of a conversation: who speaks, what is asked, what came with it.

The prompts are read as text, the way a model reads them. Nothing here raises on messages that are not as expected.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from app.kit.json_values import JsonObject

FENCE_LINE = re.compile(r"^<<<(?P<end>END )?(?P<label>[^<>\n]+) (?P<key>[0-9a-f]{8})>>>$", re.M)
PLACE_IN_HOUSE = re.compile(
    r"^You are (?P<name>[^\n]+?) \((?P<agent_id>[\w.-]+)\) of the (?P<department>[^\n]+?)\."
    r"(?: Specialisation: (?P<specialisation>[^\n]+?)\.)?(?: Skills: (?P<skills>[^\n]+?)\.)?[ ]*$",
    re.M,
)
INSTRUCTED_HEADING = re.compile(r"`##\s+([^`\n]{2,60})`")
REVISION = re.compile(
    r"\A(?:Your head of department|A person who read your work) asks for a revision:"
    r"\s*(?P<notes>.*?)\s*(?:Answer with the whole revised work\.)?\s*\Z",
    re.S,
)
LAST_STEP = "This is your last step"
REPAIR = "That answer does not match the schema"
REQUEST = "REQUEST"


@dataclass(frozen=True)
class Fence:
    """Material in a prompt, and what it is called there."""

    label: str
    text: str


@dataclass(frozen=True)
class Role:
    """Who the model is to be, as the system message has it; `headings` are those that its instructions name."""

    agent_id: str
    name: str
    department: str
    specialisation: str
    skills: str
    headings: tuple[str, ...]


@dataclass(frozen=True)
class ToolOutcome:
    """What a tool answered to a call of the present turn."""

    name: str
    value: Any


def as_object(value: Any) -> JsonObject:  # noqa: ANN401 - any JSON value
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text_of(message: JsonObject) -> str:
    """A message's text, also where its content is a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(as_object(part).get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def fence_spans(text: str) -> list[tuple[int, re.Match[str], re.Match[str], int]]:
    """Where the outermost fences stand: start, opening line, closing line, end. One pass, whatever the text is."""
    lines = list(FENCE_LINE.finditer(text))
    closings: dict[tuple[str, str], list[int]] = {}
    for place in range(len(lines) - 1, -1, -1):
        if lines[place]["end"]:
            closings.setdefault((lines[place]["label"], lines[place]["key"]), []).append(place)
    spans: list[tuple[int, re.Match[str], re.Match[str], int]] = []
    behind = -1
    for place, line in enumerate(lines):
        ends = closings.get((line["label"], line["key"]), [])
        while ends and ends[-1] <= place:
            ends.pop()
        if place > behind and not line["end"] and ends:
            behind = ends[-1]
            spans.append((line.start(), line, lines[behind], lines[behind].end()))
    return spans


def fences(text: str) -> list[Fence]:
    """The outermost fenced parts of a prompt, in order."""
    return [
        Fence(opening["label"], text[opening.end() + 1 : max(closing.start() - 1, opening.end() + 1)])
        for _, opening, closing, _ in fence_spans(text)
    ]


def without_fences(text: str) -> str:
    """A prompt's own words, without the material in it."""
    parts: list[str] = []
    begin = 0
    for start, _, _, end in fence_spans(text):
        parts.append(text[begin:start])
        begin = end
    return "".join([*parts, text[begin:]]).strip()


def role_of(messages: list[JsonObject]) -> Role:
    """Who the system message makes of the model."""
    system = "\n".join(text_of(message) for message in messages if message.get("role") == "system")
    headings = tuple(dict.fromkeys(heading.strip() for heading in INSTRUCTED_HEADING.findall(system)))
    places = list(PLACE_IN_HOUSE.finditer(system))
    if not places:
        return Role("", "the writer", "department", "", "", headings)
    found = places[-1]
    return Role(
        agent_id=found["agent_id"],
        name=found["name"],
        department=found["department"],
        specialisation=found["specialisation"] or "",
        skills=found["skills"] or "",
        headings=headings,
    )


def asks(messages: list[JsonObject]) -> list[str]:
    """What users asked, in order: without the words that only steer a turn."""
    texts = [text_of(message) for message in messages if message.get("role") == "user"]
    return [text for text in texts if not text.startswith((LAST_STEP, REPAIR))]


def request_of(messages: list[JsonObject]) -> str:
    """The client's request in its own words: fenced in the latest ask that fences one, else the first ask."""
    every = asks(messages)
    for ask in reversed(every):
        fenced = [fence.text for fence in fences(ask) if fence.label == REQUEST]
        if fenced:
            return without_fences(fenced[-1])
    return without_fences(every[0]) if every else ""


def materials(messages: list[JsonObject]) -> list[Fence]:
    """What the latest ask brings besides the request: colleagues' work, reports, an output to judge."""
    every = asks(messages)
    return [fence for fence in fences(every[-1]) if fence.label not in (REQUEST, "PARAMETERS")] if every else []


def revision_notes(messages: list[JsonObject]) -> str | None:
    """What the latest ask wants changed in work that was handed in before, or `None` for a first draft."""
    every = asks(messages)
    if len(every) < 2:
        return None
    revision = REVISION.match(every[-1])
    return (revision["notes"] if revision else without_fences(every[-1])) or "another draft"


def is_last_step(messages: list[JsonObject]) -> bool:
    """Whether the model was told that it can call no more tools."""
    return any(text_of(message).startswith(LAST_STEP) for message in messages[-2:])


def tool_outcomes(messages: list[JsonObject]) -> list[ToolOutcome]:
    """The tools' answers since the latest ask, in order."""
    names: dict[str, str] = {}
    outcomes: list[ToolOutcome] = []
    for message in messages:
        if message.get("role") == "user" and not text_of(message).startswith((LAST_STEP, REPAIR)):
            outcomes = []
        for call in map(as_object, as_list(message.get("tool_calls"))):
            names[str(call.get("id"))] = str(as_object(call.get("function")).get("name") or "")
        if message.get("role") == "tool":
            name = names.get(str(message.get("tool_call_id"))) or str(message.get("name") or "the tool")
            outcomes.append(ToolOutcome(name, parsed(text_of(message))))
    return outcomes


def parsed(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """A tool message's value: its JSON, or the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
