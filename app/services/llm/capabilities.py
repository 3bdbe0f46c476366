"""What is known of a model: LiteLLM's table, its entry's own `model_info`, and what refusals taught.

Everything that fits a request to its model asks here, so that no rule about a provider stands anywhere else.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from app.services.llm.litellm_setup import litellm
from app.services.llm.model_table import ModelEntry


class Wire(StrEnum):
    """Whose rules a request has to keep."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"
    MISTRAL = "mistral"
    DEEPSEEK = "deepseek"
    OTHER = "other"


@dataclass(frozen=True)
class Capabilities:
    """What one deployment takes."""

    entry: ModelEntry

    @cached_property
    def bare_model(self) -> str:
        """The model's name in lower case, without whoever serves it: `claude-opus-4-5`."""
        return self.entry.priced_as.lower().rpartition("/")[2]

    @cached_property
    def wire(self) -> Wire:
        """Whose rules hold: those of who made the model where its name says so, else those of who serves it."""
        for family, wire in FAMILIES.items():
            if family in self.bare_model:
                return wire
        provider = provider_of(self.entry)
        if provider == Wire.OPENAI and self.entry.params.get("api_base"):
            return Wire.OTHER
        return PROVIDERS.get(provider, Wire.OTHER)


FAMILIES = {
    "claude": Wire.ANTHROPIC,
    "gemini": Wire.GEMINI,
    "mistral": Wire.MISTRAL,
    "mixtral": Wire.MISTRAL,
    "ministral": Wire.MISTRAL,
    "magistral": Wire.MISTRAL,
    "codestral": Wire.MISTRAL,
    "devstral": Wire.MISTRAL,
    "pixtral": Wire.MISTRAL,
    "deepseek": Wire.DEEPSEEK,
    "gpt-": Wire.OPENAI,
}
"""Marks of a model's maker in its name: a gateway in front of it keeps the maker's rules."""

PROVIDERS = {
    "anthropic": Wire.ANTHROPIC,
    "openai": Wire.OPENAI,
    "azure": Wire.OPENAI,
    "gemini": Wire.GEMINI,
    "vertex_ai": Wire.GEMINI,
    "mistral": Wire.MISTRAL,
    "deepseek": Wire.DEEPSEEK,
}


def provider_of(entry: ModelEntry) -> str:
    """Who serves a deployment, in LiteLLM's word; empty where LiteLLM cannot say."""
    params = entry.params
    try:
        found = litellm.get_llm_provider(
            params["model"], custom_llm_provider=params.get("custom_llm_provider"), api_base=params.get("api_base")
        )
    except litellm.BadRequestError:
        return ""
    return str(found[1])
