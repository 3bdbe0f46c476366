"""The judge on models that refuse a schema, a temperature or a small limit, or that think before they answer."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from app.events.types import QualityCheck
from app.kit.json_values import JsonObject
from app.services.llm.context.window import ContextRules, ContextWindow
from app.services.llm.failures.errors import ModelCallFailed
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_table import load_model_table
from app.services.prompts.agents import Brief
from app.services.quality.gates import GateName
from app.services.quality.judge import Submission, judge_output
from app.services.runs.work.model_calls import model_chain
from app.settings import Settings
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault, judgment
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer
from tests.fixtures.services import Service

AGENT = "plot-specialist-001"


@asynccontextmanager
async def gateway_of(directory: Path, row: JsonObject) -> AsyncGenerator[ModelGateway]:
    """A gateway over one entry, of which nothing is known yet."""
    path = directory / "models.yaml"
    path.write_text(yaml.safe_dump({"model_list": [row], "router_settings": {"num_retries": 0}}))
    gateway = ModelGateway(load_model_table(Settings(_env_file=None, models_config=path)))  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    yield gateway
    await gateway.close()


async def judged(service: Service, gateway: ModelGateway, model: str, noted: list[str]) -> QualityCheck:
    """The judge's verdict with this model; `noted` are the repeated calls."""

    def note(_: str, error: ModelCallFailed, __: int) -> None:
        noted.append(error.code)

    agent = await service.services.engine.loader.get_agent(AGENT)
    submission = Submission(
        agent=agent,
        model=model,
        execution_id="exec_1_abc",
        brief=Brief("Write."),
        output="Work.",
        gate=GateName.SPECIALIST,
        threshold=0.5,
    )
    models = model_chain(gateway, window=ContextWindow(ContextRules()), note_retry=note, ensure_owned=lambda: None)
    return await judge_output(models, submission)


@pytest.mark.parametrize("name", ["anthropic-thinking", "openai-reasoning", "openai-older", "deepseek", "gemini"])
async def test_a_models_own_limits_and_formats_are_met_at_the_first_try(
    shared_service: Service, provider_server: ProviderServer, tmp_path: Path, name: str
) -> None:
    async with gateway_of(tmp_path, TWINS[name].entry(provider_server.url)) as gateway:
        check = await judged(shared_service, gateway, name, noted := [])

    assert check.score == 0.9
    assert noted == []
    assert provider_server.violations == []


async def test_a_refused_schema_costs_one_more_call_once(
    shared_service: Service, model_server: ModelServer, tmp_path: Path
) -> None:
    def script(call: Call) -> Reply:
        return fault(400, "json_schema is not supported") if call.body.get("response_format") else judgment()

    model_server.on("judge", script)
    params = {"model": "openai/local", "api_base": f"{model_server.url}/v1", "api_key": "k"}
    async with gateway_of(tmp_path, {"model_name": "local", "litellm_params": params}) as gateway:
        noted: list[str] = []
        checks = [await judged(shared_service, gateway, "local", noted) for _ in range(2)]

    assert [check.score for check in checks] == [0.9, 0.9]
    assert len(model_server.calls) == 3
    assert len(noted) == 1


async def test_a_model_whose_reasoning_exhausts_the_limit_is_called_without_one(
    shared_service: Service, model_server: ModelServer, tmp_path: Path
) -> None:
    def script(call: Call) -> Reply:
        return completion("", finish_reason="length") if call.body.get("max_tokens") else judgment()

    model_server.on("judge", script)
    params = {"model": "openai/local", "api_base": f"{model_server.url}/v1", "api_key": "k"}
    async with gateway_of(tmp_path, {"model_name": "local", "litellm_params": params}) as gateway:
        check = await judged(shared_service, gateway, "local", noted := [])

    assert check.score == 0.9
    assert len(noted) == 1
