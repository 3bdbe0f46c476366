"""An edit by anybody is in use by the next run within a second, in every process."""

import asyncio

import pytest

from app.models.database import Database
from app.services.catalog import live_reload
from app.services.catalog.live_reload import LiveReload
from tests.conftest import Service, StartService
from tests.fixtures.waiting import wait_until


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
