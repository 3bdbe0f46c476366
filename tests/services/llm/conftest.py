"""Model gateways on the scripted model server."""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.demo.provider import register_demo_provider
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits, ModelRequest, RunPurpose
from app.services.llm.gateway import DEFAULT_LIMITS, ModelGateway
from app.services.llm.model_info.model_table import ModelTable, load_model_table
from app.settings import Settings
from tests.fixtures.model_server import ModelServer

LoadTable = Callable[..., ModelTable]
OpenGateway = Callable[..., ModelGateway]
MODEL = "house/model"


def entry(server: ModelServer, name: str = MODEL, **params: Any) -> JsonObject:  # noqa: ANN401 - LiteLLM's own parameters
    """An entry of `model_list` that the scripted server answers."""
    given = {"model": "openai/scripted", "api_base": f"{server.url}/v1", "api_key": "key-of-the-tests", **params}
    return {"model_name": name, "litellm_params": given}


def request(model: str = MODEL, **fields: Any) -> ModelRequest:  # noqa: ANN401 - any field of a request
    """A call that asks for a line of work."""
    asked = ModelRequest(model, [{"role": "user", "content": "Say something."}], RunPurpose.WORK, "exec_1")
    return replace(asked, **fields)


def chunk(text: str, **fields: Any) -> str:  # noqa: ANN401 - a model may stream anything
    """A chunk of a streamed answer, as it goes over the wire."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": text, **fields}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"


@pytest.fixture(autouse=True)
def demo_model() -> None:
    """Make the demo model callable, as the service does when it starts."""
    register_demo_provider()


@pytest.fixture
def load_table(tmp_path: Path) -> LoadTable:
    """Load the table of a MODELS_CONFIG with this content, given as a text or as its value."""

    def load(content: object, **settings: Any) -> ModelTable:  # noqa: ANN401 - any setting
        path = tmp_path / "models.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return load_model_table(Settings(_env_file=None, models_config=path, **settings))  # pyright: ignore[reportCallIssue] - pydantic-settings' own

    return load


@pytest.fixture
async def open_gateway(load_table: LoadTable) -> AsyncGenerator[OpenGateway]:
    """Open gateways over entries of `model_list`, without retries and cooldowns; they close with the test."""
    opened: list[ModelGateway] = []

    def open_one(
        *entries: JsonObject,
        limits: CallLimits = DEFAULT_LIMITS,
        **router_settings: Any,  # noqa: ANN401 - LiteLLM's own settings
    ) -> ModelGateway:
        settings = {"num_retries": 0, "timeout": 5, "disable_cooldowns": True, **router_settings}
        gateway = ModelGateway(load_table({"model_list": list(entries), "router_settings": settings}), limits)
        opened.append(gateway)
        return gateway

    yield open_one
    for gateway in opened:
        await gateway.close()
