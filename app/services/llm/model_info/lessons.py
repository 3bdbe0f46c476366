"""Lessons from refusals: the part of a request that a model does not accept.

A lesson is kept for its entry as long as the process lives, and the next attempt leaves that part out. A guess (the
refusal names nothing) is kept once a request without that part has been answered.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from app.kit.json_values import JsonObject
from app.services.llm.failures.classification import causes_of
from app.services.llm.failures.refusals import RefusalReason, provider_error, refusal_in

WORDS_FOR_A_SCHEMA = "response_format:words"
OBJECT_FOR_A_SCHEMA = "response_format:json_object"
COMPLETION_TOKENS = "max_tokens:max_completion_tokens"
NO_USER_AFTER_TOOL = "messages:no-user-after-tool"
NEEDS_ROOM = "max_tokens:needs-room"
"""It reasons before it answers, which uses up the caller's limit."""
TOOL = "tool:"
"""The prefix of a tool's name: its schema is sent with types and properties only."""
LEFT_OUT_TOOL = ":left-out"
"""The suffix: that was refused too."""

LEFT_OUT = (
    "temperature",
    "top_p",
    "top_k",
    "tool_choice",
    "max_tokens",
    "max_completion_tokens",
    "stream_options",
    "parallel_tool_calls",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "thinking",
    "reasoning_effort",
)
"""Parameters that a request can omit without asking for something else."""
REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
FORMAT = re.compile(
    r"response_?format|response_?schema|json_?schema|json_?object|output_(format|config|schema)|structured.?output|"
    r"guided_|json mode|grammar|text\.format"
)
TOOL_BY_NAME = re.compile(r"""(?:function|tool)[\s:]*['"`]?([a-zA-Z0-9_-]{1,64})['"`]?""")
TOOL_BY_PLACE = re.compile(r"(?:tools|function_declarations)\W{0,2}(\d+)")
SIGNATURE = re.compile(
    r"(invalid|corrupted|missing a)\W+(thought[\W_]+)?signature|signature\W+(is )?(invalid|not valid)"
)
"""A refusal of something that the model itself said, not of a parameter: "Invalid `signature` in `thinking` block"."""
USER_AFTER_TOOL = re.compile(r"user'? after (role )?'?tool|last role.*but got|roles must alternate")


@dataclass(frozen=True)
class Lesson:
    """One part of a request that a model does not accept; `is_guess` if the refusal did not name it."""

    text: str
    is_guess: bool = False


@dataclass
class Lessons:
    """The lessons from one entry's refusals, confirmed and provisional."""

    known: set[str] = field(default_factory=set[str])
    guessed: set[str] = field(default_factory=set[str])

    def __contains__(self, text: str) -> bool:
        return text in self.known or text in self.guessed

    @property
    def all(self) -> frozenset[str]:
        """The lessons that the next request applies."""
        return frozenset(self.known | self.guessed) if self.known or self.guessed else frozenset()

    def add(self, lesson: Lesson) -> None:
        """Keep a lesson; a guess stays provisional until a request confirms it."""
        if lesson.is_guess and lesson.text not in self.known:
            self.guessed.add(lesson.text)
        elif not lesson.is_guess:
            self.guessed.discard(lesson.text)
            self.known.add(lesson.text)

    def confirm(self, applied: frozenset[str]) -> None:
        """Confirm the guesses among these lessons, because a request that applied them was answered."""
        self.known |= self.guessed & applied
        self.guessed -= applied

    def withdraw(self, applied: frozenset[str]) -> None:
        """Withdraw the guesses among these lessons, because a request that applied them failed too."""
        self.guessed -= applied


def lesson_of(error: Exception, sent: JsonObject, applied: frozenset[str]) -> Lesson | None:
    """Return the new lesson from a refused request, if there is one; the next attempt then uses another form."""
    said = provider_error(causes_of(error))
    if said is None or (said.status or getattr(error, "status_code", None)) not in REFUSED:
        return None
    if refusal_in(said) not in {None, RefusalReason.SCHEMA}:
        return None
    text = said.text
    if SIGNATURE.search(text):
        return None
    named = next((item for item in lessons_in(text, sent) if item not in applied), None)
    if named is not None:
        return Lesson(named)
    if has_format(sent) and WORDS_FOR_A_SCHEMA not in applied and not names_anything(text, sent):
        return Lesson(WORDS_FOR_A_SCHEMA, is_guess=True)
    return None


def lessons_in(text: str, sent: JsonObject) -> Iterable[str]:
    """Yield the lessons that a refusal's text suggests, the most certain first; `text` is in lower case."""
    if USER_AFTER_TOOL.search(text):
        yield NO_USER_AFTER_TOOL
    if "max_completion_tokens" in text and sent.get("max_tokens") is not None:
        yield COMPLETION_TOKENS
    tool = tool_in(text, sent)
    if tool is not None:
        yield f"{TOOL}{tool}"
        yield f"{TOOL}{tool}{LEFT_OUT_TOOL}"
    if has_format(sent) and tool is None and FORMAT.search(text):
        yield from formats_after(text)
    for name in LEFT_OUT:
        if sent.get(name) is not None and re.search(rf"\b{name}\b", text):
            yield name


def formats_after(text: str) -> Iterable[str]:
    """Yield the replacement for a schema: JSON mode if the refusal offers it, otherwise instructions."""
    if "json_object" in text and "json_schema" in text:
        yield OBJECT_FOR_A_SCHEMA
    yield WORDS_FOR_A_SCHEMA


def has_format(sent: JsonObject) -> bool:
    """Return whether a request demands a form for its answer."""
    return sent.get("response_format") is not None


def tool_in(text: str, sent: JsonObject) -> str | None:
    """Return the tool that a refusal is about, by its name or its place among those that were sent."""
    names = [str((tool.get("function") or {}).get("name")) for tool in sent.get("tools") or []]
    if place := TOOL_BY_PLACE.search(text):
        number = int(place.group(1))
        return names[number] if number < len(names) else None
    if "schema" not in text and "parameters" not in text:
        return None
    by_lower = {name.lower(): name for name in names}
    return next((by_lower[found] for found in TOOL_BY_NAME.findall(text) if found in by_lower), None)


def names_anything(text: str, sent: JsonObject) -> bool:
    """Return whether a refusal is about another part of the request than the form of its answer."""
    names = [name for name in (*LEFT_OUT, "messages", "content", "tools") if sent.get(name) is not None]
    return any(re.search(rf"\b{name}\b", text) for name in names)
