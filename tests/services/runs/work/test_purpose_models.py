"""The model of each call by its purpose: the operator's, else the run's, and a judge that did not do the work."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import StartupError
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import check_named_models
from app.settings import Settings
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import ADA, DEPARTMENT, HEAD, insert_department, of_type, stored_tree, write_models
from tests.fixtures.services import Service, running_service

SONNET, OPUS, HAIKU = "anthropic/claude-sonnet-4.5", "anthropic/claude-3-opus", "anthropic/claude-3-haiku"
OLDER, TURBO = "openai/gpt-4", "openai/gpt-4-turbo"
StartAnother = Any


@pytest.fixture
def start_another(database_uri: str, tmp_path: Path, model_server: ModelServer) -> StartAnother:
    """Start a service with these settings and the department."""
    config = write_models(tmp_path / "models.yaml", model_server.url)
    return partial(running_service, database_uri, tmp_path / "data", models_config=config)


def models_by_purpose(model_server: ModelServer) -> dict[str, set[str]]:
    """The models that were called, by purpose, without the prefix that the tests' server gives them."""
    found: dict[str, set[str]] = {}
    for call in model_server.calls:
        found.setdefault(call.purpose, set()).add(call.model.removeprefix("scripted-"))
    return found


@pytest.mark.slow
async def test_work_is_judged_by_the_simple_model_else_by_the_standard_one(
    service: Service, model_server: ModelServer
) -> None:
    by_default = await service.run_agent(ADA)
    by_simple = await service.run_agent(ADA, model=HAIKU)

    assert [(call.purpose, call.model) for call in model_server.calls] == [
        ("work", "scripted-claude-sonnet-4.5"),
        ("judge", "scripted-claude-3-haiku"),
        ("work", "scripted-claude-3-haiku"),
        ("judge", "scripted-claude-sonnet-4.5"),
    ]
    for done, judge in ((by_default, HAIKU), (by_simple, SONNET)):
        (check,) = of_type(await service.events(done["executionId"]), "quality-check")
        rows = (await service.http.get(f"/api/v1/executions/{done['executionId']}/calls")).json()["items"]
        assert check["model"] == judge
        assert [row["model"] for row in rows if row["purpose"] == "judge"] == [judge]


@pytest.mark.slow
async def test_each_purpose_has_the_model_that_is_chosen_for_it(
    start_another: StartAnother, model_server: ModelServer
) -> None:
    chosen = {"plan": OPUS, "judge": OLDER, "review": HAIKU, "report": TURBO}
    async with start_another(purpose_models=chosen) as service:
        await insert_department()

        done = await service.run_department(DEPARTMENT)

        assert models_by_purpose(model_server) == {
            "plan": {"claude-3-opus"},
            "work": {"claude-sonnet-4.5"},
            "judge": {"gpt-4"},
            "review": {"claude-3-haiku"},
            "report": {"gpt-4-turbo"},
        }
        tree = await stored_tree(service, done["executionId"])
        starts = {agent: of_type(await service.events(tree[agent]["executionId"]), "agent-start") for agent in tree}
        assert (starts[HEAD][0]["model"], starts[ADA][0]["model"]) == (TURBO, SONNET)


@pytest.mark.slow
async def test_a_purpose_outranks_the_model_of_a_run(start_another: StartAnother, model_server: ModelServer) -> None:
    async with start_another(purpose_models={"work": HAIKU, "judge": OLDER}) as service:
        await insert_department()

        done = await service.run_agent(ADA, model=OPUS)

        assert models_by_purpose(model_server) == {"work": {"claude-3-haiku"}, "judge": {"gpt-4"}}
        assert (await service.events(done["executionId"]))[0]["model"] == HAIKU


@pytest.mark.slow
async def test_an_agent_whose_model_is_not_configured_runs_with_that_of_its_purpose(
    start_another: StartAnother, model_server: ModelServer
) -> None:
    async with start_another(purpose_models={"work": HAIKU}) as service:
        await insert_department()
        await service.services.database["agents"].update_one({"agentId": ADA}, {"$set": {"model": "house/none"}})
        service.services.engine.loader.forget_all()

        done = await service.run_agent(ADA)

        assert (done["status"], done["qualityScore"]) == ("completed", 90.0)
        assert models_by_purpose(model_server) == {"work": {"claude-3-haiku"}, "judge": {"claude-sonnet-4.5"}}


def chosen(**settings: Any) -> Settings:  # noqa: ANN401 - any setting
    """Settings of no environment, with a key for Anthropic's models."""
    given = {"anthropic_api_key": SecretStr("sk-ant"), **settings}
    return Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "judge=house/none",
            "PURPOSE_MODELS is invalid for judge: .*'house/none' cannot be used: .* Usable names: anth",
        ),
        (
            "judging=anthropic/claude-3-opus",
            "there is no purpose 'judging'; use plan, work, judge, review, report,",
        ),
    ],
)
def test_a_name_without_an_entry_and_an_unknown_purpose_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("PURPOSE_MODELS", value)
    settings = chosen()

    with pytest.raises(StartupError, match=said):
        check_named_models(settings, ModelGateway(load_model_table(settings)))


@pytest.mark.parametrize("value", ["judge", "judge=", "=anthropic/claude-3-haiku", "judge=a,judge=b", "judge:a"])
def test_a_value_that_is_not_a_list_of_pairs_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PURPOSE_MODELS", value)

    with pytest.raises(StartupError, match=r"PURPOSE_MODELS is invalid: must"):
        Settings.load(_env_file=None)


def test_pairs_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURPOSE_MODELS", f" judge = {HAIKU} , review={OLDER}, ")

    assert chosen().purpose_models == {"judge": HAIKU, "review": OLDER}
