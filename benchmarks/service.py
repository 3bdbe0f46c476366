"""The service under test: a process of its own on an embedded MongoDB, with an agent made for the benchmark."""

import contextlib
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import orjson
from pydantic import SecretStr

from app.database.opening import open_database
from app.models.catalog.agent import Agent, ToolNameRow
from app.models.catalog.custom_tool import CustomTool
from app.models.catalog.department import Department
from app.settings import Settings
from benchmarks.children import Child, running
from benchmarks.load import Target
from benchmarks.model_server import ANSWER, TOOL_NAME

ADMIN_KEY = "admin-key-of-the-benchmarks"
AGENT_ID = "benchmark-agent-001"
DEPARTMENT = "benchmark"
PROJECT = "66f0a1b2c3d4e5f601234567"
MODEL_NAME = "anthropic/claude-sonnet-4.5"
PRICED_AS = "openai/gpt-4"
"""A model whose price LiteLLM knows: looking it up belongs to a call."""
PROMPT = "How many words has the opening of the script? Count them, then say so in a sentence."
INSTRUCTIONS = (
    "You measure texts for a film studio. Count with the tool and never by eye; say which text you measured and give "
    "the figure in one plain sentence. Where a text is missing, ask for it. Add no praise and no advice.\n\n"
) * 6
TOOL_CODE = r"(input) => ({ words: (input.text.match(/[\p{L}\p{N}]+/gu) ?? []).length })"
TOOL_SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1, "description": "The text to measure."}},
    "required": ["text"],
    "additionalProperties": False,
}
COMMAND = str(Path(sys.executable).with_name("dynamic-agents"))


def model_server_command() -> list[str]:
    """How the model server is started: a process of its own, like a real one."""
    return [sys.executable, "-m", "benchmarks.model_server"]


def service_environment(directory: Path, models_config: Path | None = None) -> dict[str, str]:
    """The settings of a service whose data lie in the directory."""
    environment = {"DATA_DIR": str(directory / "data"), "ADMIN_API_KEY": ADMIN_KEY, "LOG_FORMAT": "json"}
    environment["RESPONSE_CACHE_TTL_SECONDS"] = "0"  # equal requests are measured, not their cached answers
    return environment | ({"MODELS_CONFIG": str(models_config)} if models_config else {})


@contextlib.contextmanager
def running_service(environment: Mapping[str, str], directory: Path) -> Generator[Child]:
    """The service, ready to run agents."""
    with running("service", [COMMAND, "serve"], environment, directory) as service:
        service.wait_until_ready("/readyz")
        yield service


def write_models_config(path: Path, model_url: str) -> Path:
    """A MODELS_CONFIG with one model, served at the URL, and the service's own router settings said aloud.

    Written as JSON, which is YAML too, so that the bare server can read it without the service's code.
    """
    params = {"model": PRICED_AS, "api_base": f"{model_url}/v1", "api_key": "none-needed"}
    content = {
        "model_list": [{"model_name": MODEL_NAME, "litellm_params": params}],
        "router_settings": {"num_retries": 2, "timeout": 120, "disable_cooldowns": True},
    }
    path.write_bytes(orjson.dumps(content))
    return path


async def insert_agent(data_dir: Path, mongodb_uri: str | None = None) -> None:
    """Put the department, the tool and the agent into the database at the URI, else into the running service's."""
    settings = Settings(
        _env_file=None,  # pyright: ignore[reportCallIssue] - pydantic-settings' own
        data_dir=data_dir,
        mongodb_uri=SecretStr(mongodb_uri) if mongodb_uri else None,
    )
    async with open_database(settings, share=True):
        department = await Department(slug=DEPARTMENT, name="Benchmark").insert()
        await CustomTool(
            tool_name=TOOL_NAME,
            display_name="Word count",
            description="Counts the words of a text.",
            input_schema=TOOL_SCHEMA,
            execute_function=TOOL_CODE,
            is_global=True,
        ).insert()
        await Agent(
            agent_id=AGENT_ID,
            name="Benchmark Agent",
            description="Counts words.",
            department=department.id,
            model=MODEL_NAME,
            instructions_prompt=INSTRUCTIONS,
            tool_names=[ToolNameRow(tool_name=TOOL_NAME)],  # pyright: ignore[reportCallIssue] - its id has a default
            requires_review=False,
        ).insert()


def agent_run_target(service: Child) -> Target:
    """One agent run, waited for: two model calls and a tool call, stored with majority before it is answered."""
    return Target(
        name="agent run",
        url=f"{service.url}/api/v1/agents/{AGENT_ID}/runs",
        pid=service.process.pid,
        headers={
            "Authorization": f"Bearer {ADMIN_KEY}",
            "Content-Type": "application/json",
            "Prefer": "wait=30",
        },
        body=orjson.dumps({"prompt": PROMPT, "project": PROJECT, "judge": False}),
        expected=ANSWER.encode(),
    )
