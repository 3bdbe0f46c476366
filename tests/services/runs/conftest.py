# pyright: reportPrivateUsage=false
# To die, a process must be cut off inside.
"""One service for the run tests, with a small department of its own beside the seeds, and ways to look at its runs.

For take-overs there are processes: run engines of their own on the same database, which can die without a word.
"""

from collections.abc import AsyncGenerator

import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS
from app.services.runs.engine.dispatcher import RunLimits
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.engine.timings import Timings
from app.services.runs.engine.wakeups import OpenWakeups
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import (
    DEFAULT_LIMITS,
    EAGER,
    Catalog,
    Gate,
    StartProcess,
    die,
    insert_department,
    stop_lease_renewal,
    write_models,
)
from tests.fixtures.services import Service, running_service


@pytest.fixture(scope="session")
async def runs_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """The service behind `service`."""
    folder = tmp_path_factory.mktemp("runs-service")
    config = write_models(folder / "models.yaml", shared_model_server.url)
    uri = mongod_uri.replace("/?", "/test_runs?")
    async with running_service(uri, folder / "data", models_config=config) as running:
        await insert_department()
        yield running


@pytest.fixture
async def service(runs_service: Service, model_server: ModelServer) -> Service:
    """The one service of this folder's tests: a start costs a second, and each test leaves the catalog as it was."""
    await init_beanie(database=runs_service.services.database, document_models=list(DOCUMENTS), skip_indexes=True)
    return runs_service


@pytest.fixture
async def catalog(service: Service) -> AsyncGenerator[Catalog]:
    """A way to edit the catalog for one test."""
    edits = Catalog(service)
    yield edits
    await edits.restore()


@pytest.fixture
async def lone_processes(service: Service) -> AsyncGenerator[None]:
    """The service's own engine neither renews leases nor takes runs: only the tests' processes do."""
    await stop_lease_renewal(service.services.engine)
    yield
    await service.services.engine.start()


@pytest.fixture
async def start_process(service: Service) -> AsyncGenerator[StartProcess]:
    """Start a process that runs the executions it accepts and takes over abandoned ones."""
    engines: list[RunEngine] = []
    parts = service.services

    async def start(
        limits: RunLimits = DEFAULT_LIMITS, timings: Timings = EAGER, open_wakeups: OpenWakeups | None = None
    ) -> RunEngine:
        own = parts.engine
        engine = RunEngine(
            parts.database, parts.bus, own.loader, own.context, own.outbox, limits, timings, open_wakeups
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await die(engine)


@pytest.fixture
async def gate() -> AsyncGenerator[Gate]:
    """A gate that is open at the latest when the test ends."""
    gate = Gate()
    yield gate
    gate.open()
