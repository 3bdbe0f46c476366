"""The embedded MongoDB's credentials, tried against real mongods."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from app.database.embedded import mongod as embedded_mongod
from app.database.embedded.credentials import MongodCredentials
from app.database.embedded.mongod import EmbeddedMongod, find_mongod
from tests.database.embedded.test_embedded_mongod import Running, connected, crash
from tests.fixtures.mongods import ordinary_user
from tests.fixtures.waiting import wait_until

UNAUTHORIZED = 13


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A started mongod, its URI and its data directory."""
    data_dir = tmp_path_factory.mktemp("running") / "data"
    mongod = EmbeddedMongod(data_dir)
    try:
        yield mongod, await mongod.start(), data_dir
    finally:
        await crash(mongod)


async def is_primary(client: AsyncMongoClient[dict[str, Any]]) -> bool:
    """Whether the node takes writes yet."""
    return bool((await client.admin.command("hello"))["isWritablePrimary"])


def agents(client: AsyncMongoClient[dict[str, Any]]) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
    """The agents of the service's database."""
    return client["dynamic_agents"]["agents"]


@pytest.mark.slow
async def test_no_other_local_user_can_read_or_write_through_its_port(running: Running) -> None:
    _, uri, _ = running
    port = uri.rpartition(":")[2].partition("/")[0]

    async with connected(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        for attempt in (
            agents(client).find_one(),
            agents(client).insert_one({"agentId": "intruder-001"}),
            agents(client).update_one({}, {"$set": {"instructionsPrompt": "Obey me."}}),
            agents(client).delete_many({}),
            agents(client).aggregate([{"$match": {}}]),
            client.drop_database("dynamic_agents"),
            client.local["oplog.rs"].find_one(),
            client.admin.command("createUser", "me", pwd="mine", roles=["root"]),
            client.admin.command("replSetGetStatus"),
            client.admin.command("shutdown"),
            client.list_database_names(),
        ):
            with pytest.raises(OperationFailure) as refused:
                await attempt
            assert refused.value.code == UNAUTHORIZED
    for user, source in (("dynamic-agents", "admin"), ("__system", "local")):
        guess = f"mongodb://{user}:guess@127.0.0.1:{port}/?directConnection=true&authSource={source}"
        async with connected(guess) as client:
            with pytest.raises(OperationFailure, match="Authentication failed"):
                await agents(client).find_one()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
async def test_another_local_user_can_read_neither_the_secrets_nor_the_files_of_the_database(running: Running) -> None:
    _, uri, data_dir = running
    async with connected(uri) as client:
        await agents(client).insert_one({"agentId": "writer-001"})
    names = ("mongod.key", "mongod.password", "mongod.port", "mongo/WiredTiger")
    assert all((data_dir / name).is_file() for name in names)

    with ordinary_user():
        for name in names:
            with pytest.raises(PermissionError):
                (data_dir / name).read_bytes()
        with pytest.raises(PermissionError):
            list(data_dir.iterdir())


async def test_its_directory_and_its_secrets_are_readable_by_the_service_alone(running: Running) -> None:
    _, uri, data_dir = running
    modes = {name: stat.S_IMODE((data_dir / name).stat().st_mode) for name in (".", "mongod.key", "mongod.password")}

    assert modes == {".": 0o700, "mongod.key": 0o600, "mongod.password": 0o600}
    assert (data_dir / "mongod.password").read_text().strip() in uri
    assert (data_dir / "mongod.password").read_text().strip() not in (data_dir / "logs" / "mongod.log").read_text()


@pytest.mark.slow
async def test_a_database_made_without_a_password_gets_one_and_keeps_its_documents(tmp_path: Path) -> None:
    (tmp_path / "mongo").mkdir()
    port = embedded_mongod.__dict__["_free_port"](0)
    options = embedded_mongod.__dict__["_mongod_options"](tmp_path / "mongo", port)
    open_options = [option for option in options if "enableLocalhostAuthBypass" not in option]
    process = await asyncio.create_subprocess_exec(find_mongod(None), *open_options, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with connected(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            await client.admin.command("replSetInitiate", {"_id": "dynamic-agents", "members": members})
            await wait_until(partial(is_primary, client), seconds=30)
            await client.shelf.notes.insert_one({"_id": "kept"})
    finally:
        process.terminate()
        await process.wait()
    mongod = EmbeddedMongod(tmp_path)
    try:
        async with connected(await mongod.start()) as client:
            assert await client.shelf.notes.find_one() == {"_id": "kept"}
    finally:
        await crash(mongod)


@pytest.mark.slow
async def test_a_lost_password_is_made_again(tmp_path: Path) -> None:
    mongod = EmbeddedMongod(tmp_path)
    try:
        first = await mongod.start()
        await crash(mongod)
        (tmp_path / "mongod.password").unlink()
        (tmp_path / "mongod.key").write_text("")
        second = await mongod.start()

        async with connected(second) as client:
            await client.shelf.notes.insert_one({"_id": "written"})
        assert first != second
    finally:
        await crash(mongod)


async def test_an_intentionally_shared_directory_keeps_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    private = tmp_path / "private"
    private.mkdir(mode=0o755)

    for directory in (shared, private):
        MongodCredentials(directory).prepare()

    assert [stat.S_IMODE(directory.stat().st_mode) for directory in (shared, private)] == [0o1777, 0o700]
