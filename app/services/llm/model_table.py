"""Which models there are: `MODELS_CONFIG`, else the provider keys that are set, else the demo model."""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from app.errors import StartupError
from app.models.json_values import JsonObject
from app.services.llm.litellm_setup import litellm
from app.settings import Settings

DEMO_PARAMS: JsonObject = {"model": "demo/demo"}

DEFAULT_ROUTER_SETTINGS: JsonObject = {"num_retries": 2, "timeout": 120, "disable_cooldowns": True}
LITELLM_ROUTER_SETTINGS = {"num_retries"}
"""What `litellm_settings` may say in place of `router_settings`; LiteLLM's Router takes it where those are silent."""
ENVIRONMENT_PREFIX = "os.environ/"


@dataclass(frozen=True)
class ModelEntry:
    """One deployment of a catalogue name, in LiteLLM's own form; `problem` says why it cannot be used, if so."""

    id: str
    name: str
    params: JsonObject
    info: JsonObject
    stream: bool = False
    problem: str | None = None

    @property
    def record_name(self) -> str:
        """The model's name in records: the demo model never hides behind another's name."""
        return "demo" if self.params["model"].startswith("demo/") else self.name

    @property
    def has_price(self) -> bool:
        """Whether a cost can be told; LiteLLM itself says 0.0 for a model that it does not know."""
        return self.prices.get("input_cost_per_token") is not None

    @cached_property
    def has_listed_price(self) -> bool:
        """Whether the price is LiteLLM's own: the entry has no figure of its own and names no model to be priced as."""
        own = {name for name, value in (self.info | self.params).items() if value is not None}
        return self.has_price and "base_model" not in own and not any("cost" in name for name in own)

    @cached_property
    def provider(self) -> str:
        """Who serves it, in LiteLLM's word."""
        return self.params.get("custom_llm_provider") or self.params["model"].partition("/")[0]

    @property
    def priced_as(self) -> str:
        """The model whose price it has: behind the deployments of some providers the `base_model`."""
        return self.info.get("base_model") or self.params["model"]

    @cached_property
    def prices(self) -> JsonObject:
        """What LiteLLM's price table says of the model, under what the entry itself says."""
        model = self.priced_as
        provider, _, bare = model.partition("/")
        listed: JsonObject = litellm.model_cost.get(model) or litellm.model_cost.get(bare) or {}
        if model not in litellm.model_cost and listed.get("litellm_provider") != provider:
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

    @property
    def names(self) -> tuple[str, ...]:
        """The `model_name`s, each once."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))


def load_model_table(settings: Settings) -> ModelTable:
    """The models of this process.

    Raises:
        StartupError: `MODELS_CONFIG` is missing, unreadable or not in LiteLLM's form.
    """
    if settings.models_config is not None:
        return read_models_config(settings)
    keys = {"anthropic": settings.anthropic_api_key, "openai": settings.openai_api_key}
    params = [
        (name, {"model": name, "api_key": key.get_secret_value()})
        for name in settings.allowed_models
        if (key := keys.get(name.partition("/")[0]))
    ]
    source = "the provider keys that are set"
    if not any(keys.values()):
        params = [(name, DEMO_PARAMS) for name in settings.allowed_models]
        source = "the demo model, because neither MODELS_CONFIG nor a provider key is set"
    entries = tuple(ModelEntry(f"{name}#0", name, dict(entry), {}) for name, entry in params)
    return ModelTable(entries, DEFAULT_ROUTER_SETTINGS, {}, source)


def read_models_config(settings: Settings) -> ModelTable:
    """The table in a YAML file: `model_list`, `router_settings`, `litellm_settings`."""
    path = settings.models_config
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"MODELS_CONFIG: {path} cannot be read ({type(error).__name__}).") from None
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
    router_settings = DEFAULT_ROUTER_SETTINGS | for_all | settings_block(content, "router_settings")
    return ModelTable(entries, router_settings, litellm_settings, f"MODELS_CONFIG ({path})")


def settings_block(content: JsonObject, name: str) -> JsonObject:
    """An optional mapping of the file."""
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
    """Put the key where LiteLLM looks for it; the problem, when a variable that should hold one is unset."""
    key = params.get("api_key")
    if isinstance(key, str) and key.startswith(ENVIRONMENT_PREFIX):
        variable = key.removeprefix(ENVIRONMENT_PREFIX)
        value = variable_value(variable, settings)
        if value is None:
            return f"its key is read from {variable}, which is not set."
        params["api_key"] = value
        return None
    if key or params["model"].startswith("demo/"):
        return None
    wanted: list[str] = litellm.validate_environment(params["model"]).get("missing_keys") or []
    missing = [variable for variable in wanted if not stands_in(params, variable)]
    for variable in list(missing):
        value = variable_value(variable, settings)
        if value is not None:
            params["api_key"] = value
            missing.remove(variable)
    return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set." if missing else None


def stands_in(params: JsonObject, variable: str) -> bool:
    """Whether an entry itself says what a variable would: `AZURE_API_BASE` may be `api_base` there."""
    name = variable.lower()
    return any(params.get(one) for one in (name, name.partition("_")[2]))


def variable_value(name: str, settings: Settings) -> str | None:
    """An environment variable, or the same name in `.env` where the settings know it."""
    field = getattr(settings, name.lower(), None)
    secret = field.get_secret_value() if field is not None and hasattr(field, "get_secret_value") else None
    return os.environ.get(name) or secret
