"""The configured models: from `MODELS_CONFIG`, else from the provider keys that are set, else the demo model."""

import os
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import yaml
from pydantic import SecretStr

from app.errors import StartupError
from app.kit.files import why_unreadable
from app.kit.json_values import JsonObject
from app.services.llm.litellm_patches.setup import LISTED_MODELS, litellm
from app.services.llm.model_info.provider_models import (
    ProviderModel,
    config_line,
    current_model,
    provider_model,
    retirement_of,
    today_utc,
)
from app.settings import CATALOG_MODELS, Settings

DEMO_PARAMS: JsonObject = {"model": "demo/demo"}

DEFAULT_ROUTER_SETTINGS: JsonObject = {"num_retries": 2, "timeout": 120, "disable_cooldowns": True}
LITELLM_ROUTER_SETTINGS = {
    *("num_retries", "allowed_fails", "cooldown_time"),
    *("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"),
}
"""The `litellm_settings` that the Router uses if `router_settings` does not set them."""
LITELLM_SETTINGS: dict[str, tuple[type, ...]] = {
    "drop_params": (bool,),
    "modify_params": (bool,),
    "request_timeout": (int, float),
    "ssl_certificate": (str,),
    "ssl_verify": (bool, str),
}
"""The other supported `litellm_settings`, with their types. Each was tested; LiteLLM's proxy reads many more, some of
which only affect the proxy, and some of which would fail every call here."""
TYPE_NAMES = {bool: "true or false", str: "a text", int: "a number above 0", float: "a number above 0"}
KEY_PROVIDERS = ("anthropic", "openai", "gemini")
"""The providers that need nothing but a key."""
BASES = {
    "anthropic": ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    "openai": ("OPENAI_API_BASE", "OPENAI_BASE_URL"),
    "gemini": ("GEMINI_API_BASE",),
}
"""The variables with which a provider's address is set."""
ENVIRONMENT_PREFIX = "os.environ/"


@dataclass(frozen=True)
class ModelEntry:
    """One deployment of a configured name in LiteLLM's form; `problem` says why it cannot be used, if so."""

    id: str
    name: str
    params: JsonObject
    info: JsonObject
    stream: bool = False
    problem: str | None = None

    @property
    def retires(self) -> date | None:
        """The date on which its provider retires it, if LiteLLM's table or the entry states it."""
        return retirement_of(self.prices)

    @property
    def record_name(self) -> str:
        """The model's name in records: the demo model always appears under its own name."""
        return "demo" if self.params["model"].startswith("demo/") else self.name

    @property
    def has_price(self) -> bool:
        """Whether the price is known; LiteLLM itself reports 0.0 for unknown models."""
        return self.prices.get("input_cost_per_token") is not None

    @cached_property
    def has_listed_price(self) -> bool:
        """Whether the price is LiteLLM's own: the entry has no figure of its own and names no model to be priced as."""
        own = {name for name, value in (self.info | self.params).items() if value is not None}
        return self.has_price and "base_model" not in own and not any("cost" in name for name in own)

    @cached_property
    def provider(self) -> str:
        """LiteLLM's name of the provider."""
        return self.params.get("custom_llm_provider") or self.params["model"].partition("/")[0]

    @property
    def priced_as(self) -> str:
        """The model whose price it has: behind the deployments of some providers the `base_model`."""
        return self.info.get("base_model") or self.params["model"]

    @cached_property
    def prices(self) -> JsonObject:
        """The model's prices in LiteLLM's table, overridden by the entry."""
        model = self.priced_as
        provider, _, bare = model.partition("/")
        listed: JsonObject = LISTED_MODELS.get(model) or LISTED_MODELS.get(bare) or {}
        if model not in LISTED_MODELS and listed.get("litellm_provider") != provider:
            listed = {}  # another provider's price for a model of the same name
        own = {name: value for name, value in (self.info | self.params).items() if value is not None}
        return listed | own


@dataclass(frozen=True)
class ModelTable:
    """All entries, and the Router's and LiteLLM's settings."""

    entries: tuple[ModelEntry, ...]
    router_settings: JsonObject
    litellm_settings: JsonObject
    source: str
    providers: tuple[str, ...] = ()
    """The providers whose keys are set, if there is no MODELS_CONFIG."""

    key_settings: Settings | None = None
    """Looks up the key of a provider that is only known once a model of a wildcard is requested."""

    def fill_key(self, params: JsonObject) -> str | None:
        """Add the key and the address of a model's provider to its parameters. Returns the missing variable, if any."""
        return fill_key(params, self.key_settings) if self.key_settings else None

    def reason_for_absence(self, name: str) -> str:
        """Return the reason why a name has no entry, and the remedy."""
        provider = name.partition("/")[0]
        if self.entries and all(entry.record_name == "demo" for entry in self.entries):
            return "The demo model does not answer for this name. Set MODELS_CONFIG or a provider key for real models."
        if not self.providers or provider in self.providers:
            return f"{self.source} has no entry with that model_name. Add one, or remove the name from ALLOWED_MODELS."
        return (
            f"{key_variable(provider)} is not set. Set it, or {start_with(self.providers[0])}. For this name alone: "
            f"{config_line(name, current_model(self.providers[0]))}"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The `model_name`s, each once."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))


def load_model_table(settings: Settings) -> ModelTable:
    """Return the models of this process.

    Raises:
        StartupError: `MODELS_CONFIG` is missing, unreadable or not in LiteLLM's form.
    """
    if settings.models_config is not None:
        return read_models_config(settings)
    entries, providers = keyed_entries(settings)
    if providers:
        source = "the provider keys that are set"
        return ModelTable(entries, DEFAULT_ROUTER_SETTINGS, {}, source, providers)
    names = dict.fromkeys((*settings.allowed_models, *CATALOG_MODELS))
    demo = tuple(ModelEntry(f"{name}#0", name, dict(DEMO_PARAMS), {}) for name in names)
    source = "the demo model, because neither MODELS_CONFIG nor a provider key is set"
    return ModelTable(demo, DEFAULT_ROUTER_SETTINGS, {}, source)


def keyed_entries(settings: Settings) -> tuple[tuple[ModelEntry, ...], tuple[str, ...]]:
    """Return an entry for each allowed model whose provider's key is set, and the providers with keys."""
    providers = [name for name in KEY_PROVIDERS if variable_value(key_variable(name), settings)]
    entries: list[ModelEntry] = []
    for name in dict.fromkeys((*settings.allowed_models, *CATALOG_MODELS)):
        entry = keyed_entry(name, settings)
        if entry is not None:
            entries.append(entry)
            providers.append(entry.provider)
    return tuple(entries), tuple(dict.fromkeys(providers))


def keyed_entry(name: str, settings: Settings) -> ModelEntry | None:
    """Return the entry of a model that has LiteLLM's name; `None` if its provider or its key is missing."""
    try:
        found = litellm.get_llm_provider(name)
    except litellm.BadRequestError:
        return None
    bare, provider = str(found[0]), str(found[1])
    model = provider_model(provider, bare)
    params: JsonObject = {"model": f"{provider}/{model.id}"}
    if fill_key(params, settings) is not None:
        return None
    problem = None
    if model.is_retired(today_utc()):
        put = config_line(name, current_model(provider, bare))
        problem = (
            f"{retirement_notice(provider, model)} To continue, {start_with(provider)}. For this name alone: {put}"
        )
    return ModelEntry(f"{name}#0", name, params, {}, problem=problem)


def retirement_notice(provider: str, model: ProviderModel) -> str:
    """Return the sentence on a retired model."""
    if model.retires is None:
        return f"{provider} no longer has {model.id}, by LiteLLM's table."
    return f"{provider} retired {model.id} on {model.retires}."


def start_with(provider: str) -> str:
    """Return the instructions for using one provider's key for every name of the catalog."""
    if provider not in KEY_PROVIDERS:
        return "set MODELS_CONFIG to a file in LiteLLM's format"
    return f"start with MODELS_CONFIG=examples/models/{provider}.yaml, which puts {provider} behind every catalog model"


def key_variable(provider: str) -> str:
    """Return the variable that holds a provider's key."""
    return f"{provider.upper()}_API_KEY"


def read_models_config(settings: Settings) -> ModelTable:
    """Return the table in a YAML file: `model_list`, `router_settings`, `litellm_settings`."""
    path = settings.models_config
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"MODELS_CONFIG: {path} cannot be read ({why_unreadable(error)}).") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise StartupError(f"MODELS_CONFIG: {path} is not valid YAML{line}.") from None
    rows = content.get("model_list") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise StartupError(f"MODELS_CONFIG: {path} has no model_list with at least one entry.")
    entries = tuple(entry_of(row, place, settings) for place, row in enumerate(rows))
    litellm_settings = settings_block(content, "litellm_settings")
    for_all = {name: litellm_settings.pop(name) for name in LITELLM_ROUTER_SETTINGS & litellm_settings.keys()}
    check_litellm_settings(litellm_settings)
    router_settings = DEFAULT_ROUTER_SETTINGS | for_all | settings_block(content, "router_settings")
    return ModelTable(entries, router_settings, litellm_settings, f"MODELS_CONFIG ({path})", key_settings=settings)


def check_litellm_settings(block: JsonObject) -> None:
    """Refuse LiteLLM settings that this service does not pass on.

    Raises:
        StartupError: one is unknown, or its value has another type.
    """
    for name, value in block.items():
        where = f"MODELS_CONFIG: litellm_settings.{name}"
        types = LITELLM_SETTINGS.get(name)
        if types is None:
            known = ", ".join(sorted({*LITELLM_SETTINGS, *LITELLM_ROUTER_SETTINGS}))
            raise StartupError(f"{where} is not supported here. Remove it; supported are {known}.")
        wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        if wrong or (name == "request_timeout" and value <= 0):
            expected = dict.fromkeys(TYPE_NAMES[item] for item in types)
            raise StartupError(f"{where} must be {' or '.join(expected)}.")


def settings_block(content: JsonObject, name: str) -> JsonObject:
    """Return an optional mapping of the file."""
    block = content.get(name) or {}
    if not isinstance(block, dict):
        raise StartupError(f"MODELS_CONFIG: {name} must be a mapping.")
    return dict(block)


def entry_of(row: Any, place: int, settings: Settings) -> ModelEntry:  # noqa: ANN401 - whatever the YAML holds
    """One entry of `model_list`."""
    where = f"MODELS_CONFIG: model_list[{place}]"
    if not isinstance(row, dict) or not isinstance(row.get("model_name"), str):
        raise StartupError(f"{where} has no model_name.")
    params = row.get("litellm_params")
    if not isinstance(params, dict) or not isinstance(params.get("model"), str):
        raise StartupError(f"{where} ({row['model_name']}) has no litellm_params.model.")
    params = dict(params)
    check_provider(params, f"{where} ({row['model_name']})")
    stream = bool(params.pop("stream", False))
    problem = fill_key(params, settings)
    info = row.get("model_info") if isinstance(row.get("model_info"), dict) else {}
    return ModelEntry(f"{row['model_name']}#{place}", row["model_name"], params, dict(info or {}), stream, problem)


def check_provider(params: JsonObject, where: str) -> None:
    """Refuse a model of a provider that LiteLLM does not know, by the entry that names it."""
    if params["model"].startswith("demo/"):
        return
    try:
        litellm.get_llm_provider(
            params["model"], custom_llm_provider=params.get("custom_llm_provider"), api_base=params.get("api_base")
        )
    except litellm.BadRequestError:
        raise StartupError(f"{where}: LiteLLM knows no provider for the model {params['model']!r}.") from None


def fill_key(params: JsonObject, settings: Settings) -> str | None:
    """Add the key where LiteLLM reads it. Returns the problem if the variable for it is unset."""
    key = params.get("api_key")
    fill_base(params, settings)
    if isinstance(key, str) and key.startswith(ENVIRONMENT_PREFIX):
        variable = key.removeprefix(ENVIRONMENT_PREFIX)
        value = variable_value(variable, settings)
        if value is None:
            return f"its key is read from {variable}, which is not set."
        params["api_key"] = value
        return None
    if key or params["model"].startswith("demo/"):
        return None
    provider = params["model"].partition("/")[0]
    if provider in KEY_PROVIDERS:
        params["api_key"] = variable_value(key_variable(provider), settings)
        return None if params["api_key"] else f"{key_variable(provider)} is not set."
    wanted: list[str] = litellm.validate_environment(params["model"]).get("missing_keys") or []
    missing = [variable for variable in wanted if not is_placeholder(params, variable)]
    for variable in list(missing):
        value = variable_value(variable, settings)
        if value is not None:
            params["api_key"] = value
            missing.remove(variable)
    return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set." if missing else None


def fill_base(params: JsonObject, settings: Settings) -> None:
    """Add a provider's address from its variable where LiteLLM reads it; the entry's own address has precedence."""
    variables = BASES.get(params["model"].partition("/")[0], ())
    base = next((value for variable in variables if (value := variable_value(variable, settings))), None)
    if base and not any(params.get(name) for name in ("api_base", "base_url")):
        params["api_base"] = base


def is_placeholder(params: JsonObject, variable: str) -> bool:
    """Return whether an entry sets a variable's value itself, as `api_base` does for `AZURE_API_BASE`."""
    name = variable.lower()
    return any(params.get(item) for item in (name, name.partition("_")[2]))


def variable_value(name: str, settings: Settings) -> str | None:
    """Return the value of a setting by its variable's name, or of another environment variable."""
    if name.lower() not in Settings.model_fields:
        return os.environ.get(name) or None
    field = getattr(settings, name.lower())
    own = field.get_secret_value() if isinstance(field, SecretStr) else field
    return own if isinstance(own, str) else None
