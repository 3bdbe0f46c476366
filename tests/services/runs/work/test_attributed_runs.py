"""Calls of a run through a LiteLLM proxy name everything that the proxy attributes them to."""

import json
from pathlib import Path

import pytest

from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import ADA, DEPARTMENT, insert_department
from tests.fixtures.services import PROJECT, StartService
from tests.fixtures.waiting import wait_until

NAMES = ("anthropic/claude-sonnet-4.5", "anthropic/claude-3-haiku")


def proxy_config(path: Path, url: str) -> Path:
    """A MODELS_CONFIG with a proxy behind two names."""
    rows = [
        {
            "model_name": name,
            "litellm_params": {"model": "litellm_proxy/any", "api_base": f"{url}/v1", "api_key": "key-of-the-tests"},
        }
        for name in NAMES
    ]
    path.write_text(json.dumps({"model_list": rows, "router_settings": {"num_retries": 0}}))
    return path


@pytest.mark.slow
async def test_a_proxy_receives_the_key_the_run_and_its_tags(
    start_service: StartService, model_server: ModelServer, tmp_path: Path
) -> None:
    config = proxy_config(tmp_path / "proxy.yaml", model_server.url)
    async with start_service(models_config=config) as service:
        await insert_department()
        key = (await service.http.post("/api/v1/api-keys", json={"name": "studio", "role": "runner"})).json()
        body = {"prompt": "Write.", "project": PROJECT, "tags": ["pilot", "night"]}
        made = await service.http.post(
            f"/api/v1/agents/{ADA}/runs", json=body, headers={"Authorization": f"Bearer {key['key']}"}
        )
        assert made.status_code == 202, made.text
        await wait_until(lambda: len(model_server.calls) == 2)

    work, judge = (call.body for call in model_server.calls)
    execution = made.json()["executionId"]
    expected = {
        "executionId": execution,
        "rootExecutionId": execution,
        "agent": ADA,
        "department": DEPARTMENT,
        "project": PROJECT,
        "tags": ["pilot", "night"],
    }
    assert work["metadata"] == {**expected, "purpose": "work"}
    assert judge["metadata"] == {**expected, "purpose": "judge"}
    assert work["user"] == judge["user"] == f"key:{key['id']}"
