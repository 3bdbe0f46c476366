"""`doctor --probe`: small real calls, and a table of what each model can do."""

import io
import re
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from app.cli.probe import print_probes
from app.settings import Settings
from tests.fixtures.model_server import Call, ModelServer, Reply, completion, fault
from tests.fixtures.processes import run_command
from tests.fixtures.providers.brain import Answer, Ask, ToolUse
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer

KEY = "sk-never-shown-0815"


def obliging(call: Call) -> Reply:
    """A model that does what it is asked."""
    if call.tools:
        return completion(None, ("echo", {"text": "ready"}))
    return '{"ready": true}' if "JSON" in call.text else "ready"


def obliging_twin(ask: Ask) -> Answer | str:
    """The same for the twins."""
    if "Call the tool echo" in ask.text:
        return Answer(calls=(ToolUse("echo", {"text": "ready"}),))
    return '{"ready": true}' if "JSON" in ask.text else "ready"


def write_config(directory: Path, *rows: object) -> Path:
    """A MODELS_CONFIG with these entries."""
    path = directory / "models.yaml"
    path.write_text(yaml.safe_dump({"model_list": list(rows), "router_settings": {"num_retries": 0}}))
    return path


async def probed(config: Path) -> tuple[bool, str]:
    """Whether all works, and what is printed."""
    console = Console(width=400, record=True, file=io.StringIO())
    is_well = await print_probes(Settings(_env_file=None, models_config=config), console)  # pyright: ignore[reportCallIssue]
    return is_well, console.export_text()


def row_of(name: str, printed: str) -> list[str]:
    """The marks in a model's row."""
    line = next(line for line in printed.splitlines() if re.search(rf"\b{re.escape(name)}\s", line))
    return re.findall(r"\b(ok|no)\b", line)


@pytest.mark.slow
async def test_each_model_is_called_for_text_tool_call_structured_answer_and_stream(
    model_server: ModelServer, tmp_path: Path
) -> None:
    def script(call: Call) -> Reply:
        if call.model == "plain" and (call.tools or call.body.get("response_format") or "JSON" in call.text):
            return "I would rather talk."
        return obliging(call)

    model_server.on("*", script)
    params = {"api_base": f"{model_server.url}/v1", "api_key": KEY}
    config = write_config(
        tmp_path,
        {"model_name": "able", "litellm_params": {"model": "openai/able", **params}},
        {"model_name": "plain", "litellm_params": {"model": "openai/plain", **params}},
    )

    is_well, printed = await probed(config)

    assert not is_well
    assert row_of("able", printed) == ["ok"] * 4
    assert row_of("plain", printed) == ["ok", "no", "no", "ok"]
    assert "plain, tool call: It answered without calling the tool." in printed
    assert any(call.body.get("stream") for call in model_server.calls)


async def test_a_refused_format_is_no_failure_and_a_refused_key_shows_its_cause_without_the_key(
    model_server: ModelServer, tmp_path: Path
) -> None:
    def script(call: Call) -> Reply:
        if call.model == "locked":
            return fault(401, f"Incorrect API key provided: {KEY}.")
        return fault(400, "response_format is unknown") if call.body.get("response_format") else obliging(call)

    model_server.on("*", script)
    params = {"api_base": f"{model_server.url}/v1", "api_key": KEY}
    config = write_config(
        tmp_path,
        {"model_name": "able", "litellm_params": {"model": "openai/able", **params}},
        {"model_name": "locked", "litellm_params": {"model": "openai/locked", **params}},
    )

    is_well, printed = await probed(config)

    assert not is_well
    assert row_of("able", printed) == ["ok"] * 4
    assert row_of("locked", printed) == ["no"] * 4
    assert "Incorrect API key provided" in printed
    assert KEY not in printed


async def test_of_a_wildcard_the_models_that_settings_name_are_probed(
    model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_server.on("*", obliging)
    params = {"model": "openai/*", "api_base": f"{model_server.url}/v1", "api_key": KEY}
    config = write_config(tmp_path, {"model_name": "house/*", "litellm_params": params})

    unnamed = await probed(config)
    monkeypatch.setenv("ALLOWED_MODELS", "house/small,other/model")
    named = await probed(config)

    assert unnamed == (
        True,
        "house/* is not probed: it stands for many models. Name those to probe in ALLOWED_MODELS.\n",
    )
    assert named[0]
    assert row_of("house/small", named[1]) == ["ok"] * 4
    assert "not probed" not in named[1]
    assert {call.model for call in model_server.calls} == {"small"}


@pytest.mark.parametrize("name", sorted(TWINS))
async def test_every_providers_model_passes(provider_server: ProviderServer, tmp_path: Path, name: str) -> None:
    provider_server.on("*", obliging_twin)
    config = write_config(tmp_path, TWINS[name].entry(provider_server.url))

    is_well, printed = await probed(config)

    assert is_well, printed


@pytest.mark.slow
async def test_the_demo_model_is_not_probed(tmp_path: Path) -> None:
    code, printed = await run_command("doctor", "--probe", cwd=tmp_path)

    assert code == 0
    assert "No model to probe" in printed
