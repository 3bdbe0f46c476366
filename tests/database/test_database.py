"""Connecting: a replica set or a clear refusal, and indexes beside those that are there."""

import asyncio
import gc
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError
from structlog.testing import capture_logs

from app.database import connection as database_module
from app.database.connection import DEFAULT_DATABASE, DOCUMENTS, Database, bind_documents, connect, expected_indexes
from app.database.embedded.mongod import find_mongod
from app.errors import StartupError
from tests.fixtures.waiting import wait_until


@pytest.fixture
async def standalone_uri(tmp_path: Path) -> AsyncGenerator[str]:
    """A mongod with its default options: without --replSet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "db").mkdir()
    process = await asyncio.create_subprocess_exec(
        find_mongod(None), "--dbpath", tmp_path / "db", "--port", str(port), "--bind_ip", "127.0.0.1",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def answers() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    try:
        await wait_until(answers, seconds=30)
        yield f"mongodb://127.0.0.1:{port}/"
    finally:
        process.kill()
        await process.wait()


async def test_a_standalone_server_is_refused_with_the_reason_and_the_way_out(standalone_uri: str) -> None:
    with pytest.raises(StartupError) as caught:
        await connect(standalone_uri)

    message = str(caught.value)
    assert "MONGODB_URI" in message
    assert "standalone" in message
    assert "--replSet" in message
    assert "\n" not in message


async def test_an_unavailable_server_is_reported_in_less_than_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_module.SERVER_SELECTION_MS < 5000
    monkeypatch.setattr(database_module, "SERVER_SELECTION_MS", 200)

    async with asyncio.timeout(3):
        with pytest.raises(StartupError, match="MONGODB_URI: the MongoDB server does not answer"):
            await connect("mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=60000")
    gc.collect()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "localhost:27017",
        "http://localhost",
        "mongodb://",
        "mongodb://user:se@cret@host/db",
        "mongodb://user:secret:more@host/db",
        "mongodb://user:secret@host:port/db",
        "mongodb://user:secret@host:99999/db",
        "mongodb://user:secret@host/a$b",
        "mongodb://user:secret@host/db?w=-1",
        "mongodb://user:secret@host/db?readPreference=whoever",
        "mongodb://user:secret@host/db?maxPoolSize=many",
        "mongodb://user:secret@[::1",
        "mongodb://user:secret@host/db?tls=true&tlsCAFile=/nowhere/ca.pem",
    ],
)
async def test_an_invalid_uri_is_reported_in_one_line_without_its_password(uri: str) -> None:
    with pytest.raises(StartupError) as caught:
        await connect(uri)

    message = str(caught.value)
    assert message.startswith("MONGODB_URI")
    assert "\n" not in message
    assert "cret" not in message


async def test_the_database_is_the_one_in_the_path_else_ours(mongod_uri: str) -> None:
    named, unnamed = await connect(mongod_uri.replace("/?", "/film?")), await connect(mongod_uri)

    assert (named.name, unnamed.name) == ("film", DEFAULT_DATABASE)
    for database in (named, unnamed):
        assert database.write_concern.document["w"] == "majority"
        assert database.read_concern.level == "majority"
        assert database.client.write_concern == database.write_concern  # transactions take it from the client
        await database.client.close()


async def test_all_indexes_are_built_and_building_them_again_changes_nothing(database: Database) -> None:
    async def indexes() -> list[object]:
        return [await (await database[name_of(document)].list_indexes()).to_list() for document in DOCUMENTS]

    built = await indexes()
    with capture_logs() as lines:
        await bind_documents(database)

    assert await indexes() == built
    assert lines == []
    for document in DOCUMENTS:
        names = set(await database[name_of(document)].index_information())
        assert names == {"_id_"} | {index.document["name"] for index in expected_indexes(document)}


def name_of(document: type[object]) -> str:
    """The collection of a document class."""
    return str(getattr(document, "get_collection_name")())  # noqa: B009 - Beanie's, not of `object`


async def test_an_index_with_other_options_is_reported_and_stops_nothing(
    database_uri: str,
) -> None:
    opened = await connect(database_uri)
    await opened["departments"].create_index([("slug", ASCENDING)], name="slug_1", sparse=True)
    await opened["agents"].create_index([("agentId", ASCENDING)], name="by_agent", unique=True)
    await opened["agent-executions"].create_index([("startedAt", DESCENDING)], name="project_1_startedAt_1")

    with capture_logs() as lines:
        await bind_documents(opened)

    warned = {(line["collection"], line["index"]) for line in lines if line["event"] == "index-build-failed"}
    assert warned == {
        ("departments", "slug_1"),
        ("agents", "agentId_1"),
        ("agent-executions", "project_1_startedAt_1"),
    }
    assert "createdAt_1" in await opened["departments"].index_information()
    assert "executionId_1" in await opened["agent-executions"].index_information()
    await opened.client.close()


@pytest.mark.slow
async def test_documents_that_break_a_unique_index_stop_nothing(database_uri: str) -> None:
    opened = await connect(database_uri)
    department = ObjectId()
    heads = [{"agentId": f"head-{n}", "department": department, "isDepartmentHead": True} for n in range(2)]
    await opened["agents"].insert_many(heads)

    with capture_logs() as lines:
        await bind_documents(opened)

    assert [line["index"] for line in lines if line["event"] == "index-build-failed"] == ["department_1_head_unique"]
    assert "agentId_1" in await opened["agents"].index_information()
    await opened.client.close()


async def test_the_database_itself_refuses_a_second_head_also_when_fifty_come_at_once(database: Database) -> None:
    department = ObjectId()
    agents = database["agents"]
    rows = [{"agentId": f"head-{n}", "department": department, "isDepartmentHead": True} for n in range(50)]

    outcomes = await asyncio.gather(*(agents.insert_one(row) for row in rows), return_exceptions=True)

    refused = [one for one in outcomes if isinstance(one, DuplicateKeyError)]
    assert len(refused) == 49
    assert await agents.count_documents({"isDepartmentHead": True}) == 1
    await agents.insert_many([{"agentId": f"member-{n}", "department": department} for n in range(3)])
