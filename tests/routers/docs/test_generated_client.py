"""A Python client generated from the service's own OpenAPI description starts a run and reads its events."""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.fixtures.processes import bare_environment
from tests.fixtures.services import ADMIN_KEY, PROJECT, Service

pytestmark = pytest.mark.slow

GENERATOR = Path(sys.executable).with_name("openapi-python-client")
PACKAGE = "client_of_the_tests"


@pytest.fixture
async def generated_client(shared_service: Service, tmp_path: Path) -> Path:
    """The folder of a client that was generated from what the running service describes."""
    document = await shared_service.http.get("/openapi.json")
    (tmp_path / "openapi.json").write_bytes(document.content)
    (tmp_path / "configuration.yaml").write_text("post_hooks: []\n")
    process = await asyncio.create_subprocess_exec(
        str(GENERATOR),
        *("generate", "--path", "openapi.json", "--config", "configuration.yaml"),
        *("--meta", "none", "--output-path", PACKAGE, "--fail-on-warning"),
        cwd=tmp_path,
        env=bare_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()
    return tmp_path


@pytest.fixture
def _importable(generated_client: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The generated package can be imported, and is forgotten afterwards."""
    monkeypatch.syspath_prepend(generated_client)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def part(name: str) -> ModuleType:
    """A module of the generated package."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def operation(tag: str, name: str) -> Any:  # noqa: ANN401 - generated a moment ago: no type checker knows it
    """The function of an operation that answers with status and parsed body."""
    return part(f"api.{tag}.{name}").asyncio_detailed


@pytest.mark.usefixtures("_importable")
async def test_a_generated_client_runs_an_agent_and_reads_its_events(shared_service: Service) -> None:
    body = part("models").RunCreate(prompt="Write something.", project=PROJECT, judge=False)

    async with part("client").AuthenticatedClient(
        base_url=shared_service.url, token=ADMIN_KEY, timeout=httpx.Timeout(40)
    ) as client:
        run = await operation("agents", "start_agent_run")(
            "plot-specialist-001", client=client, body=body, prefer="wait=30"
        )
        events = await operation("executions", "list_execution_events")(
            run.parsed.execution_id, client=client, after=0, limit=200
        )

    assert (run.status_code, run.parsed.status) == (200, "completed")
    assert run.parsed.agent == "plot-specialist-001"
    assert [event["seq"] for event in events.parsed.items] == list(range(1, events.parsed.last_seq + 1))
    assert events.parsed.items[0]["executionId"] == run.parsed.execution_id


@pytest.mark.usefixtures("_importable")
async def test_a_generated_client_understands_a_problem(shared_service: Service) -> None:
    async with part("client").AuthenticatedClient(base_url=shared_service.url, token=ADMIN_KEY) as client:
        answer = await operation("agents", "get_agent")("unknown-001", client=client)

    assert isinstance(answer.parsed, part("models").Problem)
    assert (answer.parsed.status, answer.parsed.code) == (404, "agent-not-found")


def test_the_generated_client_has_a_function_for_every_operation(generated_client: Path) -> None:
    functions = {path.stem for path in (generated_client / PACKAGE / "api").glob("*/*.py")}

    assert {
        *("list_agents", "create_agent", "get_agent", "update_agent", "delete_agent", "start_agent_run"),
        *("start_department_run", "get_execution_tree", "stream_execution_events", "create_api_key", "list_models"),
    } <= functions
