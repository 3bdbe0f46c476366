"""One service for the tests of retention, trees of every kind in it, and passes on demand."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS, Database, Raw
from app.events.archive.reader import Archives, TreeArchive
from app.services.retention.archiver import Archived
from app.services.retention.passes import RetentionPass
from tests.fixtures.model_server import ModelServer
from tests.fixtures.runs import ADA, insert_department, write_models
from tests.fixtures.services import Service, running_service

LONG_AGO = datetime(2020, 1, 31, 23, 59, tzinfo=UTC)
CUTOFF = datetime(2021, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Keeper:
    """Retention on the database and the archives of a service."""

    service: Service

    @property
    def database(self) -> Database:
        """The database."""
        return self.service.services.database

    @property
    def archives(self) -> Archives:
        """The archives."""
        return self.service.services.executions.archives

    async def age(self, root_id: str, completed_at: datetime = LONG_AGO) -> None:
        """Let a run have ended long ago, and all that follows from its end be done."""
        await self.service.services.control.outbox.settle()
        await self.set(root_id, completedAt=completed_at)

    async def set(self, execution_id: str, **fields: Any) -> None:  # noqa: ANN401 - any stored value
        """Set fields of an execution's document."""
        await self.executions.update_one({"executionId": execution_id}, {"$set": fields})

    @property
    def executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        """The documents of executions."""
        return self.database["agent-executions"]

    async def run(self, cutoff: datetime = CUTOFF, archives: Archives | None = None) -> Archived:
        """Archive what ended before a time."""
        done = await RetentionPass(self.database, archives or self.archives, share=1).run(cutoff)
        assert done is not None
        return done

    async def old_run(self, **fields: Any) -> str:  # noqa: ANN401 - any stored value
        """Run Ada, and let her run have ended long ago; its id."""
        root_id: str = (await self.service.run_agent(ADA, judge=False))["executionId"]
        await self.age(root_id)
        if fields:
            await self.set(root_id, **fields)
        return root_id

    async def free_lease(self) -> None:
        """Let the lease of a process that died run out."""
        await self.database["process-leases"].update_many({}, {"$set": {"until": LONG_AGO}})

    async def events(self, execution_id: str) -> httpx.Response:
        """The answer to a request for an execution's events."""
        return await self.service.http.get(f"/api/v1/executions/{execution_id}/events", params={"limit": 200})

    async def document(self, execution_id: str) -> Raw:
        """An execution's document."""
        found = await self.executions.find_one({"executionId": execution_id})
        assert found is not None
        return found

    async def archive_of(self, root_id: str) -> TreeArchive:
        """The archive of an archived tree."""
        found = self.archives.find(await self.document(root_id))
        assert found is not None
        return found


@pytest.fixture(scope="session")
async def retention_service(
    mongod_uri: str, shared_model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Service]:
    """The service behind `service`."""
    folder = tmp_path_factory.mktemp("retention-service")
    config = write_models(folder / "models.yaml", shared_model_server.url)
    uri = mongod_uri.replace("/?", "/test_retention?")
    async with running_service(uri, folder / "data", models_config=config) as running:
        await insert_department()
        yield running


@pytest.fixture
async def service(retention_service: Service, model_server: ModelServer) -> Service:
    """The one service of this folder's tests, with nothing scripted."""
    await init_beanie(database=retention_service.services.database, document_models=list(DOCUMENTS), skip_indexes=True)
    return retention_service


@pytest.fixture
async def keeper(service: Service) -> Keeper:
    """Retention on the service, in which no run of another test is old."""
    await service.services.database["agent-executions"].update_many(
        {"completedAt": {"$lt": CUTOFF}}, {"$set": {"completedAt": datetime.now(UTC)}}
    )
    await service.services.database["retention-exports"].delete_many({})
    return Keeper(service)


def files_in(directory: Path) -> list[str]:
    """The names of the files in the archives."""
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
