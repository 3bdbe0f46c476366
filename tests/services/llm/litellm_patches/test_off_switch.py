"""`LITELLM_PATCHES=off`: LiteLLM does its own work, and a run cannot tell the difference."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.fixtures.model_server import ModelServer

REPOSITORY = Path(__file__).parents[4]
PROGRAM = """
import asyncio, json

from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.litellm_patches.direct_http import DirectHttpHandler
from app.services.llm.litellm_patches.inline_executor import InlineExecutor
from app.services.llm.litellm_patches.performance import (
    LazyEncoding,
    UncountedRouter,
    UnpricedLogging,
    model_info_from_cache,
)
from app.services.llm.litellm_patches.setup import http_handlers, litellm_main, litellm_utils
from app.services.llm.model_info.model_table import load_model_table
from app.services.llm.model_info.opening import open_models
from app.settings import Settings


async def main():
    settings = Settings()
    async with open_models(settings, load_model_table(settings)) as gateway:
        parts = []
        request = ModelRequest("m", [{"role": "user", "content": "Hello"}], RunPurpose.WORK, "exec_1")
        streamed = ModelRequest("m", request.messages, request.purpose, "exec_2", on_delta=parts.append)
        answers = [await gateway.complete(request), await gateway.complete(streamed)]
        installed = [
            isinstance(litellm_main.encoding, LazyEncoding),
            litellm_utils.get_litellm_logging_class() is UnpricedLogging,
            isinstance(gateway._router, UncountedRouter),
            gateway._is_bare,
            gateway.merges_events,
            litellm_main.get_model_info_helper is model_info_from_cache,
            isinstance(asyncio.get_running_loop()._default_executor, InlineExecutor),
        ]
        is_bounded = http_handlers.AsyncHTTPHandler is DirectHttpHandler
        texts = [answer.text for answer in answers]
        print(json.dumps({"texts": texts, "parts": "".join(parts), "installed": installed, "bounded": is_bounded}))


asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("switch", [pytest.param("on", marks=pytest.mark.long), "off"])
async def test_a_call_is_answered_with_and_without_the_performance_patches(
    tmp_path: Path, model_server: ModelServer, switch: str
) -> None:
    params = {"model": "openai/scripted", "api_base": f"{model_server.url}/v1", "api_key": "key"}
    config = {
        "model_list": [{"model_name": "m", "litellm_params": params}],
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    path = tmp_path / "models.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    environment = {
        "PATH": os.defpath,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
        "MODELS_CONFIG": str(path),
        "LITELLM_PATCHES": switch,
        "LOG_LEVEL": "error",
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe
    )
    try:
        printed, errors = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, errors.decode()
    report = json.loads(printed.splitlines()[-1])
    assert report["texts"] == ["The work is done."] * 2
    assert report["parts"] == "The work is done."
    assert report["installed"] == [switch == "on"] * 7
    assert report["bounded"], "bounds on answers stay on"
