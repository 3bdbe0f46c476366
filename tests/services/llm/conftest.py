"""Model gateways on the scripted model server."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.demo.provider import register_demo_provider
from app.kit.json_values import JsonObject
from app.services.llm.calls import CallLimits
from app.services.llm.gateway import DEFAULT_LIMITS, ModelGateway
from app.services.llm.model_info.model_table import ModelTable, load_model_table
from app.settings import Settings
from tests.fixtures.gateways import LoadTable, OpenGateway


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
