"""The Router without counts: it skips the choice from a single deployment and leaves others to LiteLLM."""

from typing import Any

import pytest

from app.services.llm.litellm_patches.performance import only_deployments
from app.services.llm.litellm_patches.setup import litellm
from tests.fixtures.gateways import OpenGateway, entry, request
from tests.fixtures.model_server import ModelServer


async def test_a_name_with_one_deployment_is_not_chosen_for(
    open_gateway: OpenGateway, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = litellm.Router.async_get_available_deployment
    chosen_for: list[str] = []

    async def noting(router: Any, model: str, **options: Any) -> Any:  # noqa: ANN401 - LiteLLM's own
        chosen_for.append(model)
        return await choose(router, model, **options)

    monkeypatch.setattr(litellm.Router, "async_get_available_deployment", noting)
    gateway = open_gateway(entry(model_server, "one"), entry(model_server, "two"), entry(model_server, "two"))

    answers = [await gateway.complete(request(name)) for name in ("one", "two")]

    assert all(answer.text for answer in answers)
    assert chosen_for == ["two"]


def test_a_deployment_that_is_switched_off_or_chooses_for_itself_is_left_to_litellm() -> None:
    deployments = [
        {"model_name": "a", "litellm_params": {"model": "openai/a"}, "model_info": {"id": "1"}},
        {"model_name": "off", "litellm_params": {"model": "openai/a"}, "model_info": {"id": "2", "blocked": True}},
        {"model_name": "auto", "litellm_params": {"model": "auto_router/a"}, "model_info": {"id": "3"}},
        {"model_name": "two", "litellm_params": {"model": "openai/a"}, "model_info": {"id": "4"}},
        {"model_name": "two", "litellm_params": {"model": "openai/b"}, "model_info": {"id": "5"}},
    ]

    assert only_deployments(deployments) == {"a": deployments[0]}
