"""The configured models, and the errors of an invalid MODELS_CONFIG."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import StartupError
from app.services.llm.failures.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_table import load_model_table
from app.settings import CATALOG_MODELS, Settings
from tests.fixtures.gateways import LoadTable

KEYED = {"model": "openai/some-model", "api_key": "sk-never-shown"}


def settings_with(**given: Any) -> Settings:  # noqa: ANN401 - any setting
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own


def test_without_any_configuration_the_demo_model_answers_for_every_name_and_is_recorded_as_demo() -> None:
    table = load_model_table(settings_with())

    assert table.names == CATALOG_MODELS
    assert {entry.record_name for entry in table.entries} == {"demo"}


def test_with_one_providers_key_only_that_providers_models_are_there() -> None:
    gateway = ModelGateway(load_model_table(settings_with(anthropic_api_key=SecretStr("sk-never-shown"))))

    assert set(gateway.table.names) == {name for name in CATALOG_MODELS if "claude" in name}
    with pytest.raises(ModelNotConfigured, match="openai/gpt-4"):
        gateway.check("openai/gpt-4")
    assert "demo" not in {gateway.record_name(name) for name in gateway.table.names}


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ("model_list: [\n", "not valid YAML at line 2"),
        ("", "no model_list"),
        ("- a\n", "no model_list"),
        ("model_list: []\n", "no model_list"),
        ({"model_list": ["a"]}, "model_list[0] has no model_name"),
        ({"model_list": [{"model_name": "a", "litellm_params": KEYED}, {}]}, "model_list[1] has no model_name"),
        ({"model_list": [{"model_name": "a"}]}, "model_list[0] (a) has no litellm_params.model"),
        ({"model_list": [{"model_name": "a", "litellm_params": {"model": 5}}]}, "no litellm_params.model"),
        ({"model_list": [{"model_name": "a", "litellm_params": {"model": "unknown/x"}}]}, "knows no provider"),
        ({"model_list": [{"model_name": "a", "litellm_params": KEYED}], "router_settings": [1]}, "router_settings"),
        ({"model_list": [{"model_name": "a", "litellm_params": KEYED}], "litellm_settings": "x"}, "litellm_settings"),
    ],
)
def test_an_invalid_models_config_is_reported_in_one_line_that_names_it(
    load_table: LoadTable, content: object, reported: str
) -> None:
    with pytest.raises(StartupError) as caught:
        load_table(content)

    message = str(caught.value)
    assert message.startswith("MODELS_CONFIG")
    assert reported in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["missing", "folder", "bytes"])
def test_a_models_config_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "models.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(StartupError, match=r"MODELS_CONFIG: .*models\.yaml cannot be read"):
        load_model_table(settings_with(models_config=path))


@pytest.mark.parametrize(
    ("params", "router_settings", "reported"),
    [
        ({"api_key": ["sk-never-shown"]}, {}, "api_key"),
        ({"rpm": "many"}, {}, "rpm"),
        ({}, {"no_such_setting": 1}, "no_such_setting"),
        ({}, {"routing_strategy": "nonsense"}, "routing_strategy"),
        ({}, {"fallbacks": "a"}, "dictionary"),
    ],
)
def test_settings_that_the_router_refuses_are_reported_in_one_line_without_values(
    load_table: LoadTable, params: dict[str, Any], router_settings: dict[str, Any], reported: str
) -> None:
    entry = {"model_name": "a", "litellm_params": KEYED | params}
    table = load_table({"model_list": [entry], "router_settings": router_settings})

    with pytest.raises(StartupError) as caught:
        ModelGateway(table)

    message = str(caught.value)
    assert message.startswith("MODELS_CONFIG")
    assert reported in message
    assert "\n" not in message
    assert "sk-never-shown" not in message


def test_a_key_is_read_from_the_variable_that_the_entry_names(
    load_table: LoadTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_KEY", "sk-from-the-environment")

    table = load_table(
        {
            "model_list": [
                {"model_name": "a", "litellm_params": {"model": "openai/x", "api_key": "os.environ/HOUSE_KEY"}}
            ]
        }
    )

    assert table.entries[0].params["api_key"] == "sk-from-the-environment"
    assert table.entries[0].problem is None


@pytest.mark.parametrize(
    ("params", "variable"),
    [
        ({"model": "openai/x"}, "OPENAI_API_KEY"),
        ({"model": "anthropic/x"}, "ANTHROPIC_API_KEY"),
        ({"model": "openai/x", "api_key": "os.environ/HOUSE_KEY"}, "HOUSE_KEY"),
    ],
)
def test_an_entry_without_its_key_is_a_clear_error_that_names_the_variable(
    load_table: LoadTable, params: dict[str, Any], variable: str
) -> None:
    gateway = ModelGateway(load_table({"model_list": [{"model_name": "a", "litellm_params": params}]}))

    with pytest.raises(ModelNotConfigured, match=variable):
        gateway.check("a")
    assert [(model.name, model.usable) for model in gateway.describe()] == [("a", False)]


def test_a_key_in_the_env_file_serves_the_entries_of_its_provider(load_table: LoadTable) -> None:
    content = {"model_list": [{"model_name": "a", "litellm_params": {"model": "openai/x"}}]}

    table = load_table(content, openai_api_key=SecretStr("sk-from-dot-env"))

    assert table.entries[0].params["api_key"] == "sk-from-dot-env"
    assert table.entries[0].problem is None


def test_a_value_in_an_entry_is_not_required_in_the_environment(load_table: LoadTable) -> None:
    params = {"model": "azure/x", "api_base": "http://127.0.0.1:9", "api_version": "2026-01-01"}

    table = load_table({"model_list": [{"model_name": "a", "litellm_params": params}]})

    assert table.entries[0].problem == "AZURE_API_KEY is not set."


def test_a_name_is_usable_when_any_of_its_deployments_is(load_table: LoadTable) -> None:
    keyless = {"model_name": "a", "litellm_params": {"model": "openai/x"}}
    keyed = {"model_name": "a", "litellm_params": KEYED}

    gateway = ModelGateway(load_table({"model_list": [keyless, keyed]}))

    gateway.check("a")
    assert [(model.name, model.usable, model.problem) for model in gateway.describe()] == [("a", True, None)]


def test_a_name_without_an_entry_is_not_configured(load_table: LoadTable) -> None:
    gateway = ModelGateway(load_table({"model_list": [{"model_name": "a", "litellm_params": KEYED}]}))

    with pytest.raises(ModelNotConfigured, match=r"'b' cannot be used: MODELS_CONFIG .* has no entry"):
        gateway.check("b")


@pytest.mark.parametrize(
    ("params", "info", "price"),
    [
        ({"model": "openai/gpt-4"}, {}, 3e-05),
        ({"model": "gpt-4"}, {}, 3e-05),
        ({"model": "openai/an-unlisted-model"}, {}, None),
        ({"model": "openai/an-unlisted-model", "input_cost_per_token": 0.5}, {}, 0.5),
        ({"model": "openai/an-unlisted-model"}, {"input_cost_per_token": 0.25}, 0.25),
        ({"model": "groq/gpt-4"}, {}, None),
        ({"model": "azure/our-deployment"}, {"base_model": "azure/gpt-4"}, 3e-05),
    ],
)
def test_a_price_is_known_from_the_entry_or_from_litellms_table_for_its_own_provider(
    load_table: LoadTable, params: dict[str, Any], info: dict[str, Any], price: float | None
) -> None:
    row = {"model_name": "a", "litellm_params": {"api_key": "sk-never-shown"} | params, "model_info": info}

    entry = load_table({"model_list": [row]}).entries[0]

    assert entry.prices.get("input_cost_per_token") == price
    assert entry.has_price == (price is not None)
