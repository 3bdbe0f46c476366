"""Shared fixtures: a real mongod, a scripted model server over HTTP, and a service for each test."""

import gc
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS, Database, bind_documents, connect
from app.database.embedded.mongod import EmbeddedMongod
from app.services.catalog import opening as catalog_opening
from app.services.llm.cache import opening as cache_opening
from app.services.llm.cache.bounded_store import BoundedStore
from app.services.tools.sandbox.tool_sandbox import ToolSandbox
from app.settings import Settings
from tests.fixtures.databases import DatabasePool
from tests.fixtures.model_server import ModelServer, model_server_app, serve_app, stop_server
from tests.fixtures.providers.server import ProviderServer, provider_server_app
from tests.fixtures.services import (
    TOOL_TIMEOUT_SECONDS,
    Service,
    StartService,
    quick_directory,
    running_service,
    write_models_config,
)
from tests.fixtures.valkey import ValkeyProcess, running_valkey


def pytest_collection_finish() -> None:
    """Leave all that the imports have made to itself: each full collection would look at half a million objects."""
    gc.freeze()


async def close_idle_files(uri: str) -> None:
    """Let a mongod close the files of finished tests: each database has 90, and a process may open 20,000."""
    opened = await connect(uri)
    config = "file_manager=(close_idle_time=60,close_scan_interval=30)"
    await opened.client.admin.command({"setParameter": 1, "wiredTigerEngineRuntimeConfig": config})
    await opened.client.close()


@pytest.fixture(scope="session")
async def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """A real mongod for the whole session, on a memory disk where there is one: each test has a database of its own."""
    with quick_directory(tmp_path_factory) as directory:
        mongod = EmbeddedMongod(directory)
        uri = await mongod.start()
        await close_idle_files(uri)
        yield uri
        await mongod.stop()


@pytest.fixture(scope="session")
def databases(mongod_uri: str) -> DatabasePool:
    """The databases of the session's mongod."""
    return DatabasePool(mongod_uri)


@pytest.fixture
async def database_uri(request: pytest.FixtureRequest, databases: DatabasePool) -> AsyncGenerator[str]:
    """A database of this test alone: a new one where the test starts services itself, which make its collections."""
    if not {"database", "service"} & set(request.fixturenames):
        yield databases.new()
        return
    uri = databases.take()
    yield uri
    await databases.give_back(uri)


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
    """A MODELS_CONFIG that sends every catalog model to the scripted server, without retries."""
    return write_models_config(tmp_path / "models.yaml", model_server.url)


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
    open_another = catalog_opening.open_sandbox

    @asynccontextmanager
    async def open_sandbox(settings: Settings) -> AsyncGenerator[ToolSandbox]:
        usual = (settings.tool_timeout_seconds, settings.tool_memory_mb) == (TOOL_TIMEOUT_SECONDS, 64)
        if usual and not settings.tool_egress_allowlist:
            yield warm_sandbox
            return
        async with open_another(settings) as sandbox:
            yield sandbox

    monkeypatch.setattr(catalog_opening, "open_sandbox", open_sandbox)


@pytest.fixture
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services wait for their response cache however slow the machine is, where a test counts what it saves."""
    monkeypatch.setattr(cache_opening, "BoundedStore", partial(BoundedStore, answer_seconds=10))


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

    For tests that read the catalog or start runs of their own; who edits the catalog takes `service`.
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
