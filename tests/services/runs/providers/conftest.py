"""A service whose models are the provider twins."""

from collections.abc import AsyncGenerator

import pytest
import yaml
from beanie import init_beanie

from app.database.connection import DOCUMENTS
from tests.fixtures.provider_runs import RETRIED
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer
from tests.fixtures.runs import insert_department
from tests.fixtures.services import Service, running_service


@pytest.fixture(scope="session")
async def twins_service(
    mongod_uri: str, shared_provider_server: ProviderServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """A service whose models are the twins: each plain and streamed, without further tries and with two."""
    folder = tmp_path_factory.mktemp("twins-service")
    url = shared_provider_server.url
    rows = [twin.entry(url, stream=stream) for twin in TWINS.values() for stream in (False, True)]
    for twin in TWINS.values():
        for stream in (False, True):
            row = twin.entry(url, stream=stream, name=f"{twin.name}{RETRIED}{'-streamed' * stream}")
            row["litellm_params"]["num_retries"] = 2
            rows.append(row)
    settings = {"num_retries": 0, "timeout": 20, "disable_cooldowns": True}
    config = folder / "models.yaml"
    config.write_text(yaml.safe_dump({"model_list": rows, "router_settings": settings}))
    uri = mongod_uri.replace("/?", "/test_twins?")
    async with running_service(uri, folder / "data", models_config=config) as running:
        await insert_department()
        yield running


@pytest.fixture
async def service(twins_service: Service, provider_server: ProviderServer) -> Service:
    """The one service of this folder, which `lone_processes` and `start_process` use too."""
    provider_server.reset()
    await init_beanie(database=twins_service.services.database, document_models=list(DOCUMENTS), skip_indexes=True)
    return twins_service
