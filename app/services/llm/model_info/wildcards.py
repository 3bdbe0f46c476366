"""Wildcard entries of `MODELS_CONFIG` in LiteLLM's form: `openai/*`, or `*` for all."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from app.services.llm.litellm_patches.setup import litellm
from app.services.llm.model_info.model_table import ModelEntry

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


def expand(entry: ModelEntry, model: str, fill_key: Callable[[dict[str, object]], str | None]) -> ModelEntry:
    """Return a wildcard's entry for one model: the text that matched `*` in the name replaces `*` in the provider's id.

    `fill_key` adds the key of the model's provider to the parameters, and returns the missing variable, if any.
    """
    found = pattern_of(entry.name).fullmatch(model)
    parts = found.groups() if found else ()
    wire = str(entry.params["model"])
    params = dict(entry.params)
    for part in parts:
        wire = wire.replace(WILDCARD, part, 1)
    params["model"] = wire
    problem = entry.problem
    if problem is None:
        try:
            litellm.get_llm_provider(wire, custom_llm_provider=params.get("custom_llm_provider"))
        except litellm.BadRequestError:
            problem = f"LiteLLM knows no provider for the model {wire!r}: name it as provider/model."
        else:
            problem = fill_key(params)
    return replace(entry, id=f"{model}#{entry.id}", name=model, params=params, problem=problem)
