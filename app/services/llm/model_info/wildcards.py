"""The deployments behind wildcard entries of `MODELS_CONFIG`, which are in LiteLLM's form."""

from collections.abc import Callable
from dataclasses import replace

from app.services.llm.litellm_patches.setup import litellm
from app.services.llm.model_info.model_names import WILDCARD, pattern_of
from app.services.llm.model_info.model_table import ModelEntry


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
