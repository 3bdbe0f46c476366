"""The findings of `dynamic-agents doctor`, in the order in which to fix them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Part(IntEnum):
    """A part of the service; each depends on those before it."""

    SETTINGS = 1
    DATABASE = 2
    DOCUMENTS = 3
    START = 4
    REDIS = 5
    MODELS = 6
    TOOLS = 7
    MCP = 8
    RUNS = 9
    TRACES = 10


@dataclass(frozen=True)
class Finding:
    """The result of one check; `ok` is `None` for a note, which is not a problem.

    `text` says what was found, and for a problem what to do.
    """

    part: Part
    subject: str
    ok: bool | None
    text: str


MARKS: dict[bool | None, str] = {False: "WRONG", None: "note", True: "ok"}
SEVERITIES = tuple(MARKS)
"""The values of `ok`, the worst first."""


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort problems first, then notes, then passed checks; within each, parts that others depend on come first."""
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.ok), finding.part))


def summary(findings: Iterable[Finding]) -> str:
    """Return the last line: the number of problems, and which one to fix first."""
    wrong = [finding for finding in in_order(findings) if finding.ok is False]
    if not wrong:
        return "Nothing is wrong."
    count = "1 problem" if len(wrong) == 1 else f"{len(wrong)} problems"
    return f"{count}. Begin with the first: {wrong[0].subject}."
