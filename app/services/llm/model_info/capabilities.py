"""Capabilities of a model, from LiteLLM's table, the entry's `model_info` and earlier refusals.

All code that fits a request to its model uses this module, so that rules about providers are in one place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import LISTED_MODELS, litellm
from app.services.llm.model_info.lessons import (
    COMPLETION_TOKENS,
    NEEDS_ROOM,
    NO_USER_AFTER_TOOL,
    OBJECT_FOR_A_SCHEMA,
    WORDS_FOR_A_SCHEMA,
    Lessons,
)
from app.services.llm.model_info.model_table import ModelEntry


class Wire(StrEnum):
    """The providers and makers whose rules a request must follow."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"
    MISTRAL = "mistral"
    DEEPSEEK = "deepseek"
    OTHER = "other"


class AnswerForm(StrEnum):
    """The ways to make a model answer in JSON."""

    SCHEMA = "json_schema"
    OBJECT = "json_object"
    WORDS = "words"


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
"""Parts of a model's name that show its maker, whose rules apply even behind a gateway."""

PROVIDERS = {
    "anthropic": Wire.ANTHROPIC,
    "openai": Wire.OPENAI,
    "azure": Wire.OPENAI,
    "gemini": Wire.GEMINI,
    "vertex_ai": Wire.GEMINI,
    "mistral": Wire.MISTRAL,
    "deepseek": Wire.DEEPSEEK,
}
CONSTRAINED_SERVERS = frozenset({"hosted_vllm", "vllm", "ollama", "ollama_chat", "lm_studio", "llamafile", "demo"})
"""Servers that enforce a schema on any model's answer."""
REASONERS = re.compile(r"reason|thinking|(^|[^a-z])r1([^0-9a-z]|$)|^o[134]([^0-9a-z]|$)|qwq|magistral|gpt-oss|gpt-5")
"""Names of models that reason by default."""
CLAUDES_SERVERS = frozenset({"anthropic", "bedrock", "vertex_ai", "azure_ai", "databricks"})
"""Providers that accept Anthropic's request form; gateways with OpenAI's form have their own rules."""
MARKED_SERVERS = CLAUDES_SERVERS | {"openrouter"}
"""Providers to which LiteLLM passes on the markers of Claude's prompt cache."""
OWN_MARKERS = "cache_control_injection_points"
"""The parameter of an entry by which LiteLLM sets markers itself."""
NO_EFFORT = {None, "", "none", "disable"}


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of one deployment."""

    entry: ModelEntry
    lessons: Lessons = field(default_factory=Lessons)

    @cached_property
    def bare_model(self) -> str:
        """The model's name in lower case, without its provider: `claude-opus-4-5`."""
        return self.entry.priced_as.lower().rpartition("/")[2]

    @cached_property
    def server(self) -> str:
        """LiteLLM's name of the provider; empty if LiteLLM does not know it."""
        params = self.entry.params
        try:
            found = litellm.get_llm_provider(
                params["model"], custom_llm_provider=params.get("custom_llm_provider"), api_base=params.get("api_base")
            )
        except litellm.BadRequestError:
            return ""
        return str(found[1])

    @cached_property
    def wire(self) -> Wire:
        """The rules that apply: those of the model's maker if its name shows it, otherwise those of its provider."""
        for family, wire in FAMILIES.items():
            if family in self.bare_model:
                return wire
        if self.listed.get("litellm_provider") == "openai":
            return Wire.OPENAI
        if self.server == "openai" and self.entry.params.get("api_base"):
            return Wire.OTHER
        return PROVIDERS.get(self.server, Wire.OTHER)

    @cached_property
    def listed(self) -> JsonObject:
        """The model's row in LiteLLM's table, overridden by the entry's `model_info`."""
        names = (self.entry.priced_as, f"{self.server}/{self.bare_model}", self.bare_model)
        found: Mapping[str, object] = next((row for name in names if (row := LISTED_MODELS.get(name))), {})
        own = {name: value for name, value in self.entry.info.items() if value is not None}
        return {**found, **own}

    @cached_property
    def answer_form(self) -> AnswerForm:
        """The ways to make it answer in JSON, before any refusal."""
        stated = self.entry.info.get("supports_response_schema")
        if stated is not None:
            return AnswerForm.SCHEMA if stated else AnswerForm.OBJECT
        if self.server in CONSTRAINED_SERVERS:
            return AnswerForm.SCHEMA
        if self.wire == Wire.DEEPSEEK:
            return AnswerForm.OBJECT
        if self.wire == Wire.OPENAI and not self.listed.get("supports_response_schema", True):
            return AnswerForm.OBJECT
        return self._listed_form()

    def _listed_form(self) -> AnswerForm:
        """Return the parameters in LiteLLM's list; LiteLLM silently drops all others."""
        provider = self.server or None
        known: list[str] = (
            litellm.get_supported_openai_params(self.entry.params["model"].partition("/")[2], provider) or []
        )
        if known and "response_format" not in known:
            return AnswerForm.WORDS
        lacks = self.wire == Wire.OPENAI and self.listed and not self.listed.get("supports_response_schema")
        return AnswerForm.OBJECT if lacks else AnswerForm.SCHEMA

    @property
    def form(self) -> AnswerForm:
        """The ways to make it answer in JSON that have not been refused."""
        if WORDS_FOR_A_SCHEMA in self.lessons:
            return AnswerForm.WORDS
        if OBJECT_FOR_A_SCHEMA in self.lessons and self.answer_form == AnswerForm.SCHEMA:
            return AnswerForm.OBJECT
        return self.answer_form

    @cached_property
    def wants_tools_of_history(self) -> bool:
        """Whether a conversation that contains tool calls must define tools, even if none may be called."""
        return self.wire == Wire.ANTHROPIC and self.server in CLAUDES_SERVERS

    @cached_property
    def takes_cache_markers(self) -> bool:
        """Whether requests must mark what its prompt cache keeps, and the entry leaves that to the service."""
        is_marked = self.wire == Wire.ANTHROPIC and self.server in MARKED_SERVERS
        supported = bool(self.listed.get("supports_prompt_caching"))
        return is_marked and supported and OWN_MARKERS not in self.entry.params

    @property
    def takes_user_after_tool(self) -> bool:
        """Whether a user's turn may come right after a tool's result."""
        return self.wire != Wire.MISTRAL and NO_USER_AFTER_TOOL not in self.lessons

    @property
    def wants_completion_tokens(self) -> bool:
        """Whether its output limit is named `max_completion_tokens`."""
        return COMPLETION_TOKENS in self.lessons or (self.wire == Wire.OPENAI and self.reasons_by_itself)

    @cached_property
    def reasons_by_itself(self) -> bool:
        """Whether it reasons by default."""
        if REASONERS.search(self.bare_model):
            return True
        return self.wire != Wire.ANTHROPIC and bool(self.listed.get("supports_reasoning"))

    def thinks(self, arguments: JsonObject) -> bool:
        """Return whether it reasons on this request."""
        given = self.entry.params | {name: value for name, value in arguments.items() if value is not None}
        thinking = given.get("thinking")
        if isinstance(thinking, dict):
            return thinking.get("type") != "disabled"
        effort = given.get("reasoning_effort")
        effort = effort.get("effort") if isinstance(effort, dict) else effort
        if effort not in NO_EFFORT:
            return True
        return self.reasons_by_itself or NEEDS_ROOM in self.lessons

    def leaves_out(self, parameter: str) -> bool:
        """Return whether it refused this parameter."""
        return parameter in self.lessons
