"""The consumer of audit marks: one dense chain, each mark in it once, however many processes append and die."""

import asyncio
from pathlib import Path

import pytest
from pymongo.errors import AutoReconnect

from app import failpoints
from app.database.collections import collection_of
from app.database.connection import Database, connect
from app.failpoints import FailpointReached
from app.models.audit import AuditEntry, AuditMark
from app.services.audit import appender as appender_module
from app.services.audit.appender import AuditAppender
from tests.fixtures.audit_chains import assert_dense, leave_marks, make_chain, read_chain
from tests.fixtures.processes import run_command
from tests.fixtures.services import StartService


async def pending(database: Database) -> int:
    return await collection_of(database, AuditMark).count_documents({})


async def test_entries_follow_the_order_of_the_changes(database: Database) -> None:
    chain = await make_chain(database, 12)

    assert_dense(chain, 12)
    assert [entry["target"]["key"] for entry in chain] == [f"agent-{number}" for number in range(1, 13)]
    assert await pending(database) == 0


async def test_concurrent_appenders_make_one_dense_chain(database: Database, database_uri: str) -> None:
    opened = [await connect(database_uri) for _ in range(3)]
    appenders = [AuditAppender(one, look_every_seconds=0.02) for one in opened]
    tasks = [asyncio.create_task(one.run()) for one in appenders]
    for _ in range(10):
        await leave_marks(database, 30)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while await pending(database):  # noqa: ASYNC110 - other connections make it so
            await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for one in opened:
        await one.client.close()

    assert_dense(await read_chain(database), 300)
    assert len(await collection_of(database, AuditEntry).distinct("mark")) == 300


@pytest.mark.parametrize("place", ["before-audit-append", "after-audit-append"])
async def test_a_batch_that_broke_off_is_completed_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    await leave_marks(database, 5)
    monkeypatch.setattr(appender_module, "failpoint", failpoints.armed(f"{place}:raise"))
    with pytest.raises(FailpointReached):
        await AuditAppender(database).append_pending()

    assert await pending(database) == 5
    await leave_marks(database, 5)
    await AuditAppender(database).append_pending()

    assert_dense(await read_chain(database), 10)
    assert await pending(database) == 0


async def test_a_part_of_a_batch_is_not_appended_again(database: Database) -> None:
    await leave_marks(database, 6)
    marks = await collection_of(database, AuditMark).find().sort("_id", 1).to_list()
    await AuditAppender(database).append_pending()
    await collection_of(database, AuditEntry).delete_many({"_id": {"$gt": 4}})  # as if it had died in the insertion
    await collection_of(database, AuditMark).insert_many(marks)

    await AuditAppender(database).append_pending()

    assert_dense(await read_chain(database), 6)
    assert await pending(database) == 0


async def test_an_appender_that_fell_behind_reads_the_head_again(database: Database) -> None:
    slow, quick = AuditAppender(database), AuditAppender(database)
    await leave_marks(database, 2)
    await slow.append_pending()
    await leave_marks(database, 3)
    await quick.append_pending()
    await leave_marks(database, 1)

    assert await slow.append_pending() == 1
    assert_dense(await read_chain(database), 6)


async def test_an_unavailable_database_stops_no_appender(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    one, failures = AuditAppender(database, look_every_seconds=0.01), [AutoReconnect("gone"), RuntimeError("odd")]
    append = one.append_pending

    async def fail_first() -> int:
        if failures:
            raise failures.pop()
        return await append()

    monkeypatch.setattr(one, "append_pending", fail_first)
    await leave_marks(database, 2)
    task = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        while await pending(database):  # noqa: ASYNC110 - the task makes it so
            await asyncio.sleep(0.01)
    task.cancel()

    assert_dense(await read_chain(database), 2)


async def test_a_process_that_stops_leaves_no_change_without_its_entry(
    database: Database, start_service: StartService
) -> None:
    async with start_service() as service:
        entry = {"slug": "press", "name": "Press", "description": "Writes announcements."}
        assert (await service.http.post("/api/v1/departments", json=entry)).status_code == 201

    chain = await read_chain(database)
    assert await pending(database) == 0
    assert ("department.create", "press") in {(entry["action"], entry["target"]["key"]) for entry in chain}


async def test_a_command_that_changes_something_leaves_no_change_without_its_entry(
    database: Database, database_uri: str, tmp_path: Path
) -> None:
    made = await run_command(
        "keys", "create", "--name", "ci", "--role", "runner", cwd=tmp_path, MONGODB_URI=database_uri
    )

    assert made[0] == 0
    assert [entry["action"] for entry in await read_chain(database)] == ["api-key.create"]
    assert await pending(database) == 0
