"""Environment variables that look like misspelled settings."""

from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = (
    "DYNAMIC_AGENTS_",
    "MONGODB_",
    "MODEL_",
    "MODELS_",
    "TOOL_",
    "MCP_SERVER",
    "JWT_",
    "RUN_RATE_",
    "AUTH_FAILURE",
)
"""Prefixes of variables that are meant for the service."""
COMMAND_LINE = ("DYNAMIC_AGENTS_URL", "DYNAMIC_AGENTS_KEY")
SHORT_NAME = 6


@dataclass(frozen=True)
class UnknownVariable:
    """An unknown variable, and the setting that was probably meant, if one is close enough."""

    name: str
    likely: str | None

    def __str__(self) -> str:
        if self.likely is None:
            return f"{self.name} is not a setting of this service. See docs/reference/settings.md."
        return f"{self.name} is not a setting of this service. Did you mean {self.likely}?"


def unknown_variables(names: Iterable[str], settings: Iterable[str]) -> list[UnknownVariable]:
    """Find the names that are near misses of `settings` or share a prefix with one of them.

    A near miss differs by at most one edit if the name is short, by two if it is longer: `PROT`, `MONGO_URI`.
    """
    known = [name.upper() for name in settings]
    found: list[UnknownVariable] = []
    for name in sorted(set(names)):
        upper = name.upper()
        if upper in known or upper in COMMAND_LINE:
            continue
        near = min(known, key=lambda setting: edit_distance(upper, setting))
        allowed = 1 if len(upper) <= SHORT_NAME else 2
        likely = near if edit_distance(upper, near) <= allowed else None
        if likely or upper.startswith(PREFIXES):
            found.append(UnknownVariable(name, likely))
    return found


def edit_distance(first: str, second: str) -> int:
    """Return the number of insertions, deletions, substitutions and swaps of neighbors between two texts."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for place, character in enumerate(first, start=1):
        before, last, row = row, before, [place]
        for column, other in enumerate(second, start=1):
            cost = min(before[column] + 1, row[-1] + 1, before[column - 1] + (character != other))
            swapped = place > 1 and column > 1 and first[place - 2] == other and second[column - 2] == character
            row.append(min(cost, last[column - 2] + 1) if swapped else cost)
    return row[-1]
