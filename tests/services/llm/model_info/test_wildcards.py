"""Entries that stand for many models, and settings of LiteLLM that work or are refused by name."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from app.errors import StartupError
from app.kit.json_values import JsonObject
from app.services.llm.failures.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_names import KnownModels, matches
from app.services.llm.model_info.model_table import LITELLM_SETTINGS, ModelTable, load_model_table
from app.services.llm.model_info.opening import check_named_models
from app.settings import CATALOG_MODELS, Settings
from tests.fixtures.gateways import request
from tests.fixtures.model_server import ModelServer

LoadTable = Callable[[object], ModelTable]


def wildcard(model_server: ModelServer, name: str = "openai/*", model: str = "openai/*") -> JsonObject:
    """An entry that sends every matching model to the scripted server."""
    params = {"model": model, "api_base": f"{model_server.url}/v1", "api_key": "sk-test"}
    return {"model_name": name, "litellm_params": params}


@pytest.mark.parametrize(
    ("name", "model", "asked", "wire"),
    [
        ("openai/*", "openai/*", "openai/gpt-5-nano", "gpt-5-nano"),
        ("*", "openai/*", "any/name-at-all", "any/name-at-all"),
        ("house/*", "openai/fixed", "house/special", "fixed"),
        ("house/*-large", "openai/*", "house/draft-large", "draft"),
    ],
)
async def test_a_wildcard_serves_every_model_that_it_matches(
    load_table: LoadTable, model_server: ModelServer, name: str, model: str, asked: str, wire: str
) -> None:
    gateway = ModelGateway(load_table({"model_list": [wildcard(model_server, name, model)]}))

    first = await gateway.complete(request(model=asked))
    second = await gateway.complete(request(model=asked))
    for many in ("*/*", name):
        with pytest.raises(ModelNotConfigured):
            gateway.check(many)
    await gateway.close()

    assert (first.model, second.model) == (asked, asked)
    assert [call.model for call in model_server.calls] == [wire, wire]


async def test_a_models_own_entry_comes_before_a_wildcard_and_the_closest_wildcard_before_others(
    load_table: LoadTable, model_server: ModelServer
) -> None:
    rows = [
        wildcard(model_server, "*", "openai/any"),
        wildcard(model_server, "house/*", "openai/house"),
        wildcard(model_server, "house/own", "openai/own"),
    ]
    gateway = ModelGateway(load_table({"model_list": rows}))

    for asked in ("house/own", "house/else", "other/thing"):
        await gateway.complete(request(model=asked))
    await gateway.close()

    assert [call.model for call in model_server.calls] == ["own", "house", "any"]


def test_a_wildcard_matches_no_wildcard_and_no_name_of_absurd_length() -> None:
    assert matches(["openai/*"], "openai/*") is None
    assert matches(["openai/*"], "openai/" + "x" * 500) is None
    assert matches(["openai/*"], "openai/") is None
    assert matches(["*", "openai/*"], "openai/x") == "openai/*"


def test_models_of_a_wildcard_may_be_named_and_the_wildcard_may_not() -> None:
    known = KnownModels(frozenset({"house/*", "own/model[1]"}))

    assert [name in known for name in ("house/any", "own/model[1]")] == [True, True]
    assert [name in known for name in ("house/", "house/*", "own/model1", "else/model", None)] == [False] * 5


def test_a_wildcard_model_of_an_unknown_provider_is_reported(load_table: LoadTable) -> None:
    params = {"model": "*", "api_key": "sk-test"}
    gateway = ModelGateway(load_table({"model_list": [{"model_name": "*", "litellm_params": params}]}))

    with pytest.raises(ModelNotConfigured, match="knows no provider for the model 'nonsense'"):
        gateway.check("nonsense")


@pytest.mark.parametrize("name", ["cache", "cache_params", "callbacks", "no_such_setting", "api_key"])
def test_a_setting_of_litellm_that_does_not_work_here_is_refused_by_name(load_table: LoadTable, name: str) -> None:
    content = {"model_list": [{"model_name": "a", "litellm_params": {"model": "openai/a", "api_key": "k"}}]}

    with pytest.raises(StartupError, match=rf"litellm_settings\.{name} is not supported here\. Remove it; "):
        load_table({**content, "litellm_settings": {name: True}})


@pytest.mark.parametrize(
    ("name", "value"), [("request_timeout", 0), ("request_timeout", True), ("drop_params", "yes"), ("ssl_verify", 1)]
)
def test_a_setting_of_litellm_with_a_value_of_another_type_is_refused(
    load_table: LoadTable, name: str, value: object
) -> None:
    content = {"model_list": [{"model_name": "a", "litellm_params": {"model": "openai/a", "api_key": "k"}}]}

    with pytest.raises(StartupError, match=rf"litellm_settings\.{name} must be "):
        load_table({**content, "litellm_settings": {name: value}})


@pytest.mark.parametrize(
    "setting",
    [{"drop_params": True}, {"modify_params": True}, {"request_timeout": 30}, {"ssl_verify": True}],
    ids=lambda setting: next(iter(setting)),
)
async def test_a_supported_setting_of_litellm_breaks_no_call(
    load_table: LoadTable, model_server: ModelServer, setting: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.services.llm.litellm_patches.setup import litellm  # noqa: PLC0415 - the test undoes what the gateway sets

    assert set(setting) <= set(LITELLM_SETTINGS)
    for name in setting:
        monkeypatch.setattr(litellm, name, getattr(litellm, name))
    gateway = ModelGateway(load_table({"model_list": [wildcard(model_server)], "litellm_settings": setting}))

    answer = await gateway.complete(request(model="openai/x"))
    await gateway.close()

    assert answer.text


def settings_with(**values: object) -> Settings:
    """Settings of no environment."""
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_allowed_models_limit_the_models_of_runs_but_not_of_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = settings_with(anthropic_api_key=SecretStr("sk-ant"), allowed_models=("openai/gpt-5",))
    gateway = ModelGateway(load_model_table(settings))

    gateway.check("anthropic/claude-sonnet-4.5")
    check_named_models(settings, gateway)


@pytest.mark.parametrize("field", ["simple_model", "standard_model", "complex_model"])
def test_a_model_of_a_complexity_that_does_not_exist_stops_the_start_by_name(field: str) -> None:
    settings = settings_with(openai_api_key=SecretStr("sk-test"), **{field: "openai-typo/gpt-9"})
    gateway = ModelGateway(load_model_table(settings))

    with pytest.raises(StartupError, match=f"{field.upper()} is invalid: .*gpt-9"):
        check_named_models(settings, gateway)


def test_the_demo_model_serves_every_catalog_name() -> None:
    gateway = ModelGateway(load_model_table(settings_with(allowed_models=("house/model",))))

    assert all(gateway.record_name(name) == "demo" for name in (*CATALOG_MODELS, "house/model"))
