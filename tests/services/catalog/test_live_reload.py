"""An edit by anybody is in use by the next run within a second, in every process."""

import asyncio
from pathlib import Path

import pytest

from app.database.connection import Database, bind_documents, connect
from app.services.catalog import live_reload
from app.services.catalog.live_reload import LiveReload
from tests.fixtures.replica_set import running_replica_set
from tests.fixtures.services import Service, StartService
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.slow


async def edit_until_seen(service: Service, database: Database, text: str) -> None:
    """Edit an agent by hand, and wait until the service loads it so."""
    await database["agents"].update_one({"agentId": "story-head-001"}, {"$set": {"instructionsPrompt": text}})

    async def is_seen() -> bool:
        return (await service.services.starter.loader.get_agent("story-head-001")).instructions == text

    await wait_until(is_seen, seconds=2)


async def test_a_raw_edit_is_used_by_the_next_load_in_two_processes(start_service: StartService) -> None:
    async with start_service() as first, start_service() as second:
        for service in (first, second):
            await service.services.starter.loader.get_agent("story-head-001")

        await asyncio.gather(
            edit_until_seen(first, first.services.database, "Edited by hand."),
            edit_until_seen(second, first.services.database, "Edited by hand."),
        )


async def test_a_replaced_and_a_deleted_document_are_noticed(service: Service) -> None:
    edits: list[int] = []
    watcher = LiveReload(service.services.database, lambda: edits.append(1))
    await watcher.start()
    seen = len(edits)
    departments = service.services.database["departments"]

    department = await departments.find_one({"slug": "audio"})
    assert department is not None
    await departments.replace_one({"_id": department["_id"]}, department | {"name": "Sound"})
    await wait_until(lambda: len(edits) == seen + 1)
    await departments.delete_one({"_id": department["_id"]})

    await wait_until(lambda: len(edits) == seen + 2)
    await watcher.stop()


async def test_statistics_alone_are_no_edit(service: Service) -> None:
    edits: list[int] = []
    watcher = LiveReload(service.services.database, lambda: edits.append(1))
    await watcher.start()
    seen = len(edits)
    agents = service.services.database["agents"]

    await agents.update_one(
        {"agentId": "story-head-001"}, {"$inc": {"totalExecutions": 1}, "$set": {"successRate": 99}}
    )
    await agents.update_one({"agentId": "story-head-001"}, {"$unset": {"specialization": ""}})

    await wait_until(lambda: len(edits) > seen)
    await watcher.stop()
    assert len(edits) == seen + 1


async def test_a_stream_that_the_server_ended_is_opened_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reload, "RETRY_SECONDS", 0.05)
    edits: list[int] = []
    watcher = LiveReload(service.services.database, lambda: edits.append(1))
    await watcher.start()
    seen = len(edits)

    await service.services.database.client.drop_database(service.services.database)
    await wait_until(lambda: len(edits) > seen)
    seen = len(edits)
    await service.services.database["agents"].insert_one({"agentId": "new-001"})

    await wait_until(lambda: len(edits) > seen)
    await watcher.stop()


@pytest.mark.long
async def test_edits_are_seen_after_the_primary_has_changed(tmp_path: Path) -> None:
    async with running_replica_set(tmp_path) as replica_set:
        database = await connect(replica_set.uri)
        await bind_documents(database)
        edits: list[int] = []
        watcher = LiveReload(database, lambda: edits.append(1))
        await watcher.start()
        seen = len(edits)

        primary = await replica_set.find_primary()
        assert primary is not None
        await primary.end()
        await wait_until(replica_set.has_primary, seconds=30)
        await database["agents"].insert_one({"agentId": "new-001"})

        await wait_until(lambda: len(edits) > seen, seconds=10)
        await watcher.stop()
        await database.client.close()
