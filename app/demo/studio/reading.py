"""A request as the demo model reads it: the agent, the client's request, the material and the tools' results.

The gateway passes facts as `CallMetadata`; the request and the material come from the messages. Unexpected messages do
not raise errors.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from app.kit.json_values import JsonObject
from app.services.llm.calls import AgentProfile, CallMetadata
from app.services.prompts.agents import last_step_prompt
from app.services.prompts.fences import same_as

FENCE_LINE = re.compile(r"^<<<(?P<end>END )?(?P<label>[^<>\n]+) (?P<key>[0-9a-f]{8})>>>$", re.M)
INSTRUCTED_HEADING = re.compile(r"`##\s+([^`\n]{2,60})`")
REPAIR = "That answer does not match the schema"
REQUEST = "REQUEST"
NOT_MATERIAL = (
    *(REQUEST, "PARAMETERS", "CONVERSATION"),
    *("PROJECT", "EPISODE", "CRITERIA OF DEPARTMENT", "CRITERIA OF AGENT"),
)
"""The labels of fences that hold neither work nor an output."""
UNKNOWN_AGENT = AgentProfile("", "the writer", "department")


@dataclass(frozen=True)
class Fence:
    """Fenced material in a prompt, and its label."""

    label: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """The messages of a request, and the metadata that came with them."""

    messages: list[JsonObject]
    metadata: CallMetadata = field(default_factory=lambda: CallMetadata(UNKNOWN_AGENT))

    @property
    def agent(self) -> AgentProfile:
        """The agent that the model speaks for."""
        return self.metadata.agent

    @property
    def revision_notes(self) -> str | None:
        """The changes that a reviewer asks for; `None` for a first draft.

        A later message of a client, in a continued conversation, counts as such notes.
        """
        if self.metadata.revision_notes is not None:
            return self.metadata.revision_notes or "another draft"
        asked = asks(self)
        return without_fences(asked[-1]) or "another draft" if len(asked) > 1 else None


@dataclass(frozen=True)
class ToolResult:
    """A tool's result in the current turn."""

    name: str
    value: Any


def as_object(value: Any) -> JsonObject:  # noqa: ANN401 - any JSON value
    """Return the value if it is an object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Return the value if it is a list, otherwise an empty one."""
    return value if isinstance(value, list) else []


def text_of(message: JsonObject) -> str:
    """Return a message's text; content given as parts is joined."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(as_object(part).get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def fence_spans(text: str) -> list[tuple[int, re.Match[str], re.Match[str], int]]:
    """Return the outermost fences: start, opening line, closing line, end. Takes one pass over the text."""
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
    """Return the outermost fenced parts of a prompt, in order."""
    return [
        Fence(opening["label"], text[opening.end() + 1 : max(closing.start() - 1, opening.end() + 1)])
        for _, opening, closing, _ in fence_spans(text)
    ]


def without_fences(text: str) -> str:
    """Return a prompt without its fenced material."""
    parts: list[str] = []
    begin = 0
    for start, _, _, end in fence_spans(text):
        parts.append(text[begin:start])
        begin = end
    return "".join([*parts, text[begin:]]).strip()


def instructed_headings(conversation: Conversation) -> list[str]:
    """Return the headings that the agent's instructions ask for, such as `## Beats`."""
    system = (text_of(message) for message in conversation.messages if message.get("role") == "system")
    return list(dict.fromkeys(heading.strip() for heading in INSTRUCTED_HEADING.findall("\n".join(system))))


def steers(message: JsonObject) -> bool:
    """Return whether a user's message only steers the model: the last-step notice, or a request to repair an answer."""
    text = text_of(message)
    return text == last_step_prompt() or text.startswith(REPAIR)


def asks(conversation: Conversation) -> list[str]:
    """Return the texts of the users' messages, in order, without those that only steer the model."""
    users = [message for message in conversation.messages if message.get("role") == "user"]
    return [text_of(message) for message in users if not steers(message)]


def request_of(conversation: Conversation) -> str:
    """Return the client's request: fenced in the latest ask that fences one, or the first ask."""
    asked = asks(conversation)
    for ask in reversed(asked):
        fenced = [fence.text for fence in fences(ask) if fence.label == REQUEST]
        if fenced:
            return without_fences(fenced[-1])
    return without_fences(asked[0]) if asked else ""


def materials(conversation: Conversation) -> list[Fence]:
    """Return the latest ask's fenced material besides the request: other agents' work, reports, an output to judge."""
    asked = asks(conversation)
    return [fence for fence in fences(asked[-1]) if fence.label not in NOT_MATERIAL] if asked else []


def tool_results(conversation: Conversation) -> list[ToolResult]:
    """Return the results of tools since the latest ask, in order."""
    names: dict[str, str] = {}
    repeated: dict[str, str] = {}
    results: list[ToolResult] = []
    for message in conversation.messages:
        if message.get("role") == "user" and not steers(message):
            results = []
        for call in map(as_object, as_list(message.get("tool_calls"))):
            names[str(call.get("id"))] = str(as_object(call.get("function")).get("name") or "")
        if message.get("role") == "tool":
            name = names.get(str(message.get("tool_call_id"))) or str(message.get("name") or "the tool")
            text = text_of(message)
            shown = fences(text)
            result = shown[0].text if shown else repeated.get(text, text)
            repeated[same_as(text)] = result
            results.append(ToolResult(name, parsed(result)))
    return results


def parsed(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON value of a tool's message, or its text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
