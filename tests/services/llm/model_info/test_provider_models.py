"""The models that there are with nothing but a provider's key: real ids, their retirement, and what to do about it."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from app.errors import StartupError
from app.services.llm.failures.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.services.llm.litellm_patches.setup import LISTED_MODELS
from app.services.llm.model_info import model_table
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.provider_models import current_model, provider_model, retirement_of
from app.settings import CATALOG_MODELS, Settings
from tests.fixtures.gateways import request
from tests.fixtures.processes import ROOT
from tests.fixtures.providers.registry import KEY
from tests.fixtures.providers.server import ProviderServer

SONNET, OPUS, HAIKU, GPT_4, _ = CATALOG_MODELS
EXAMPLES = sorted((ROOT / "examples" / "models").glob("*.yaml"))
BASES = {"anthropic": "/anthropic", "openai": "/openai/v1", "gemini": "/gemini/v1beta"}


def settings_with(**given: Any) -> Settings:  # noqa: ANN401 - any setting
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own


def keyed(provider: str, server: ProviderServer, **given: Any) -> Settings:  # noqa: ANN401 - any setting
    """The settings with a single provider's key, and its twin as the provider."""
    key = {f"{provider}_api_key": SecretStr(KEY), f"{provider}_api_base": f"{server.url}{BASES[provider]}"}
    return settings_with(**key, **given)


@pytest.fixture(autouse=True)
def in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day on which one of the catalog's models is still there."""
    monkeypatch.setattr(model_table, "today_utc", lambda: date(2026, 11, 27))


async def test_a_catalog_name_is_called_by_its_providers_id(
    provider_server: ProviderServer,
) -> None:
    gateway = ModelGateway(load_model_table(keyed("anthropic", provider_server)))

    answer = await gateway.complete(request(SONNET))
    await gateway.close()

    assert answer.model == SONNET
    assert answer.cost_usd is not None
    assert [one.ask.model for one in provider_server.received] == ["claude-sonnet-4-5"]


def test_a_retired_model_is_unusable_and_names_the_line_that_fixes_it(provider_server: ProviderServer) -> None:
    gateway = ModelGateway(load_model_table(keyed("anthropic", provider_server)))
    described = {model.name: model for model in gateway.describe()}

    assert (described[SONNET].usable, described[SONNET].retires_on) == (True, date(2026, 11, 30))
    assert [described[name].usable for name in (OPUS, HAIKU)] == [False, False]
    with pytest.raises(ModelNotConfigured, match="MODELS_CONFIG") as caught:
        gateway.check(OPUS)
    line = str(caught.value).partition("alone: ")[2]
    assert yaml.safe_load(line) == [
        {"model_name": OPUS, "litellm_params": {"model": current_model("anthropic", "claude-3-opus")}}
    ]


@pytest.mark.parametrize(("day", "usable"), [(date(2026, 10, 22), True), (date(2026, 10, 23), False)])
def test_a_model_is_retired_from_the_day_that_the_table_names(
    monkeypatch: pytest.MonkeyPatch, day: date, usable: bool
) -> None:
    monkeypatch.setattr(model_table, "today_utc", lambda: day)

    gateway = ModelGateway(load_model_table(settings_with(openai_api_key=SecretStr(KEY))))

    described = {model.name: model for model in gateway.describe()}
    assert described[GPT_4].usable is usable
    assert described[GPT_4].retires_on == date(2026, 10, 23)


def test_a_name_whose_provider_has_no_key_names_the_variable_and_the_line(provider_server: ProviderServer) -> None:
    gateway = ModelGateway(load_model_table(keyed("gemini", provider_server)))

    with pytest.raises(ModelNotConfigured, match="ANTHROPIC_API_KEY is not set") as caught:
        gateway.check(SONNET)
    line = yaml.safe_load(str(caught.value).partition("alone: ")[2])[0]
    assert (line["model_name"], line["litellm_params"]["model"].partition("/")[0]) == (SONNET, "gemini")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("gemini", "gemini/gemini-2.5-flash"),
        ("openai", "openai/gpt-4.1"),
        ("openai", "gpt-4o"),
        ("anthropic", "anthropic/claude-haiku-4-5"),
        ("anthropic", "claude-haiku-4.5"),
    ],
)
async def test_any_model_of_a_provider_whose_key_is_set_may_be_allowed_by_its_own_name(
    provider_server: ProviderServer, provider: str, model: str
) -> None:
    gateway = ModelGateway(load_model_table(keyed(provider, provider_server, allowed_models=model)))

    answer = await gateway.complete(request(model))
    await gateway.close()

    assert answer.text
    assert provider_server.violations == []


def test_a_model_of_another_provider_is_allowed_where_its_key_is_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = "mistral/mistral-large-latest,deepseek/deepseek-chat,unknown/x"
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)

    table = load_model_table(settings_with(allowed_models=names))

    assert table.names == ("mistral/mistral-large-latest",)


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("anthropic", "ANTHROPIC_BASE_URL"), ("openai", "OPENAI_BASE_URL"), ("gemini", "GEMINI_API_BASE")],
)
def test_an_entry_is_called_where_the_environment_says_unless_it_says_so_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9/from-the-environment")
    own = {"model": f"{provider}/x", "api_base": "http://127.0.0.1:9/own"}
    rows = [
        {"model_name": str(place), "litellm_params": {"api_key": "k", **params}}
        for place, params in enumerate([{"model": f"{provider}/x"}, own])
    ]
    config = tmp_path / "models.yaml"
    config.write_text(yaml.safe_dump({"model_list": rows}))

    entries = load_model_table(settings_with(models_config=config)).entries

    assert [entry.params["api_base"].rpartition("/")[2] for entry in entries] == ["from-the-environment", "own"]


def test_an_invalid_provider_address_stops_the_start() -> None:
    with pytest.raises(StartupError, match="OPENAI_API_BASE"):
        Settings.load(openai_api_base="ftp://nowhere", _env_file=None)


def test_dates_spellings_and_releases_are_read_from_the_table() -> None:
    assert provider_model("anthropic", "claude-sonnet-4.5").id == "claude-sonnet-4-5"
    assert provider_model("anthropic", "claude-haiku-4.5").id == "claude-haiku-4-5"
    assert provider_model("gemini", "gemini-2.5-pro").id == "gemini-2.5-pro"
    assert provider_model("anthropic", "claude-3-opus").is_gone
    assert not provider_model("openai", "ft:gpt-4o:our-own").is_gone


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_file_puts_models_that_are_there_behind_every_name_of_the_catalog(path: Path) -> None:
    key = {f"{path.stem}_api_key": SecretStr(KEY)}

    gateway = ModelGateway(load_model_table(settings_with(models_config=path, **key)))

    assert {model.name for model in gateway.describe() if model.usable and model.price_known} == {*CATALOG_MODELS}
    for entry in gateway.table.entries:
        provider, _, bare = entry.params["model"].partition("/")
        row = LISTED_MODELS.get(entry.params["model"]) or LISTED_MODELS[bare]
        assert (row["litellm_provider"], retirement_of(row), row["supports_function_calling"]) == (provider, None, True)


def test_there_is_an_example_file_for_each_of_three_providers() -> None:
    assert [path.stem for path in EXAMPLES] == ["anthropic", "gemini", "openai"]
