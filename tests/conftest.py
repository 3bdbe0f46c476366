"""Shared fixtures: a real mongod, a scripted model server over HTTP, and a service for each test."""

import gc
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from beanie import init_beanie
from pydantic import SecretStr

from app import main
from app.database.connection import DOCUMENTS, Database, bind_documents, connect
from app.database.embedded.mongod import EmbeddedMongod
from app.dependencies import Services
from app.main import create_app
from app.server.server import server_options
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import CATALOGUE_MODELS, Settings
from tests.fixtures.model_server import ModelServer, model_server_app, serve_app, stop_server
from tests.fixtures.providers.server import ProviderServer, provider_server_app
from tests.fixtures.valkey import ValkeyProcess, running_valkey

ADMIN_KEY = "admin-key-of-the-tests"
TOOL_TIMEOUT_SECONDS = 2
PROJECT = "66f0a1b2c3d4e5f601234567"
MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
MEMORY_DISK_BYTES = 4 * 1024**3
DATABASE_NUMBERS = itertools.count(1)


def pytest_collection_finish() -> None:
    """Leave all that the imports have made to itself: each full collection would look at half a million objects."""
    gc.freeze()


@pytest.fixture(scope="session")
async def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """A real mongod for the whole session, on a memory disk where there is one: each test has a database of its own."""
    with quick_directory(tmp_path_factory) as directory:
        mongod = EmbeddedMongod(directory)
        uri = await mongod.start()
        yield uri
        await mongod.stop()


@contextmanager
def quick_directory(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A directory in memory, where files and their indexes are made three times as fast; else an ordinary one."""
    if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > MEMORY_DISK_BYTES:
        with tempfile.TemporaryDirectory(prefix="mongod-", dir=MEMORY_DISK) as name:
            yield Path(name)
    else:
        yield tmp_path_factory.mktemp("mongod")


@pytest.fixture
def database_uri(mongod_uri: str) -> str:
    """A database of this test alone."""
    return mongod_uri.replace("/?", f"/test_{next(DATABASE_NUMBERS)}?")


@pytest.fixture
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ValkeyProcess]:
    """A real Valkey of this test alone, for tests that stop, flush or freeze it."""
    async with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
async def session_valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[ValkeyProcess]:
    """The Valkey behind `redis_url`."""
    async with running_valkey(tmp_path_factory.mktemp("session-valkey")) as server:
        yield server


@pytest.fixture
async def redis_url(session_valkey: ValkeyProcess) -> str:
    """A real, empty Valkey for tests that leave it as it is."""
    await session_valkey.flush()
    return session_valkey.url


@pytest.fixture(scope="session")
async def shared_model_server() -> AsyncGenerator[ModelServer]:
    """The scripted model server of the session."""
    server = ModelServer()
    running, task, url = await serve_app(model_server_app(server))
    server.url = url
    yield server
    await stop_server(running, task)


@pytest.fixture
def model_server(shared_model_server: ModelServer) -> ModelServer:
    """The model server, with nothing scripted and nothing called."""
    shared_model_server.reset()
    return shared_model_server


@pytest.fixture(scope="session")
async def shared_provider_server() -> AsyncGenerator[ProviderServer]:
    """The server of all provider twins of the session."""
    server = ProviderServer()
    running, task, url = await serve_app(provider_server_app(server))
    server.url = url
    yield server
    await stop_server(running, task)


@pytest.fixture
def provider_server(shared_provider_server: ProviderServer) -> ProviderServer:
    """The provider twins, with nothing scripted and nothing received."""
    shared_provider_server.reset()
    return shared_provider_server


@pytest.fixture
def models_config(tmp_path: Path, model_server: ModelServer) -> Path:
    """A MODELS_CONFIG that sends every catalogue model to the scripted server, without retries."""
    return write_models_config(tmp_path / "models.yaml", model_server.url)


def write_models_config(path: Path, url: str, **router_settings: Any) -> Path:  # noqa: ANN401 - LiteLLM's own settings
    """A MODELS_CONFIG for an OpenAI-compatible server."""
    entries = [
        {
            "model_name": name,
            "litellm_params": {"model": "openai/scripted", "api_base": f"{url}/v1", "api_key": "key-of-the-tests"},
        }
        for name in CATALOGUE_MODELS
    ]
    content = {"model_list": entries, "router_settings": {"num_retries": 0, "timeout": 5, **router_settings}}
    path.write_text(yaml.safe_dump(content))
    return path


@dataclass(frozen=True)
class Service:
    """A running service: its address, its parts, and an HTTP client with the admin key."""

    url: str
    http: httpx.AsyncClient
    services: Services = field(repr=False)
    database_uri: str

    @property
    def websocket_url(self) -> str:
        """The address of the event socket."""
        return self.url.replace("http", "ws", 1) + "/api/agent-events"

    async def run_agent(self, agent_id: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the body
        """Run an agent to its end."""
        return await self._run(f"/api/v1/agents/{agent_id}/runs", body)

    async def run_department(self, slug: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of the body
        """Run a department to its end."""
        return await self._run(f"/api/v1/departments/{slug}/runs", body)

    async def run_orchestration(self, *departments: str, **body: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
        """Run several departments to their end, all active ones when none is named."""
        named = {"departments": list(departments)} if departments else {}
        return await self._run("/api/v1/orchestrations", named | body)

    async def _run(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        body = {"prompt": "Write something.", "project": PROJECT} | body
        answer = await self.http.post(path, json=body, headers={"Prefer": "wait=30"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def events(self, execution_id: str) -> list[dict[str, Any]]:
        """All stored events of an execution."""
        answer = await self.http.get(f"/api/v1/executions/{execution_id}/events", params={"limit": 200})
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]


@pytest.fixture(scope="session")
async def warm_sandbox() -> AsyncGenerator[ToolSandbox]:
    """A real sandbox for all services of the session: its processes take a second to start."""
    sandbox = ToolSandbox(timeout_seconds=TOOL_TIMEOUT_SECONDS, memory_mb=64, workers=2)
    await sandbox.start()
    yield sandbox
    await sandbox.close()


@pytest.fixture(autouse=True)
def share_the_sandbox(monkeypatch: pytest.MonkeyPatch, warm_sandbox: ToolSandbox) -> None:
    """Services with the tests' usual limits use the session's sandbox; others start one of their own."""
    open_another = main.open_sandbox

    @asynccontextmanager
    async def open_sandbox(settings: Settings) -> AsyncGenerator[ToolSandbox]:
        usual = (settings.tool_timeout_seconds, settings.tool_memory_mb) == (TOOL_TIMEOUT_SECONDS, 64)
        if usual and not settings.tool_egress_allowlist:
            yield warm_sandbox
            return
        async with open_another(settings) as sandbox:
            yield sandbox

    monkeypatch.setattr(main, "open_sandbox", open_sandbox)


StartService = Callable[..., AbstractAsyncContextManager[Service]]


@asynccontextmanager
async def running_service(uri: str, data_dir: Path, **settings: Any) -> AsyncGenerator[Service]:  # noqa: ANN401 - any setting
    """A service on a database, with the settings that a test is about."""
    given = {
        "mongodb_uri": SecretStr(uri),
        "data_dir": data_dir,
        "admin_api_key": SecretStr(ADMIN_KEY),
        "seed_on_start": True,
        "tool_timeout_seconds": TOOL_TIMEOUT_SECONDS,
        **settings,
    }
    chosen = Settings(_env_file=None, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    app = create_app(chosen)
    running, task, url = await serve_app(app, **server_options(chosen))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    try:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=40) as http:
            yield Service(url, http, app.state.services, uri)
    finally:
        await stop_server(running, task)


@pytest.fixture
def start_service(database_uri: str, tmp_path: Path) -> StartService:
    """Start services on this test's database, with the settings that a test is about."""
    return partial(running_service, database_uri, tmp_path / "data")


@pytest.fixture(scope="session")
async def session_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """The service behind `shared_service`."""
    folder = tmp_path_factory.mktemp("shared-service")
    config = write_models_config(folder / "models.yaml", shared_model_server.url)
    uri = mongod_uri.replace("/?", "/test_shared?")
    async with running_service(uri, folder / "data", models_config=config) as running:
        yield running


@pytest.fixture
async def shared_service(session_service: Service, model_server: ModelServer) -> Service:
    """A service on the seeds that all tests of a session share, because a start costs a second.

    For tests that read the catalogue or start runs of their own; who edits the catalogue takes `service`.
    """
    await init_beanie(database=session_service.services.database, document_models=list(DOCUMENTS), skip_indexes=True)
    return session_service


@pytest.fixture
async def database(database_uri: str) -> AsyncGenerator[Database]:
    """This test's database without a service: documents bound, indexes built, nothing in it."""
    opened = await connect(database_uri)
    await bind_documents(opened)
    yield opened
    await opened.client.close()


@pytest.fixture
async def service(start_service: StartService, models_config: Path) -> AsyncGenerator[Service]:
    """A service on the seeds, whose models are the scripted server."""
    async with start_service(models_config=models_config) as running:
        yield running


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of this machine changes a test, and no `.env` is read."""
    for name in ("MONGODB_URI", "REDIS_URL", "MODELS_CONFIG", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ADMIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def payload_documents() -> dict[str, Any]:
    """Documents and indexes exactly as a real Payload wrote them, as MongoDB extended JSON."""
    path = Path(__file__).parent / "fixtures" / "payload-documents.json"
    return json.loads(path.read_text(encoding="utf-8"))
