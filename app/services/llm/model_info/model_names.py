"""Names of models, and the wildcards among them, which stand for many: `openai/*`, or `*` for all."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

WILDCARD = "*"
MAX_NAME_CHARACTERS = 200


def is_wildcard(name: str) -> bool:
    """Return whether a `model_name` is a wildcard."""
    return WILDCARD in name


def pattern_of(name: str) -> re.Pattern[str]:
    """Return the pattern of a wildcard name: each `*` is one or more characters."""
    return re.compile("(.+)".join(map(re.escape, name.split(WILDCARD))))


def matches(names: Iterable[str], model: str) -> str | None:
    """Return the most specific wildcard among `names` that matches a model; `None` if none does."""
    if len(model) > MAX_NAME_CHARACTERS or is_wildcard(model):
        return None
    found = [name for name in names if is_wildcard(name) and pattern_of(name).fullmatch(model)]
    return max(found, key=lambda name: len(name) - name.count(WILDCARD), default=None)


@dataclass(frozen=True)
class KnownModels:
    """The models that agents and departments may name; a wildcard among the names allows each model it matches."""

    names: frozenset[str]

    def __contains__(self, model: object) -> bool:
        """Return whether a model may be named. A wildcard itself may not: no single model can be called by it."""
        if not isinstance(model, str) or is_wildcard(model):
            return False
        return model in self.names or matches(self.names, model) is not None
