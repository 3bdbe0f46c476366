"""The embedded MongoDB, with real mongods on directories of their own."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from app.database.embedded import mongod as embedded_mongod
from app.database.embedded.mongod import EmbeddedMongod
from app.database.transactions import TRANSACTION_LIFETIME_SECONDS, TRANSACTION_SECONDS
from tests.fixtures.mongods import is_alive, silent_listener, start_error

Running = tuple[EmbeddedMongod, str, Path]
REPOSITORY = Path(__file__).parents[3]
SERVICE = """
import asyncio, sys
from pathlib import Path
from pymongo import AsyncMongoClient
from app.database.embedded.mongod import EmbeddedMongod

async def main():
    mongod = EmbeddedMongod(Path(sys.argv[1]))
    async with AsyncMongoClient(await mongod.start()) as client:
        await client.shelf.notes.insert_one({"_id": "kept"})
    print(mongod.pid, mongod.guard_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def connected(uri: str) -> AsyncGenerator[AsyncMongoClient[dict[str, Any]]]:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(uri, serverSelectionTimeoutMS=5000)
    async with client:
        yield client


async def crash(mongod: EmbeddedMongod) -> None:
    """Kill mongod the hard way, which also saves the second that it takes to leave in order."""
    if mongod.pid is not None:
        os.kill(mongod.pid, signal.SIGKILL)
        await mongod.wait()
    await mongod.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - another program's end sets no event of ours
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A started mongod, its URI and its data directory."""
    data_dir = tmp_path_factory.mktemp("running") / "data"
    mongod = EmbeddedMongod(data_dir)
    try:
        yield mongod, await mongod.start(), data_dir
    finally:
        await crash(mongod)


@pytest.mark.slow
async def test_the_transaction_of_a_dead_process_ends_soon(running: Running) -> None:
    _, uri, _ = running
    async with connected(uri) as client:
        asked = {"getParameter": 1, "transactionLifetimeLimitSeconds": 1}
        found = await client.admin.command(asked)
    assert TRANSACTION_SECONDS < found["transactionLifetimeLimitSeconds"] <= TRANSACTION_LIFETIME_SECONDS


@pytest.mark.slow
async def test_it_supports_majority_writes_transactions_and_change_streams(running: Running) -> None:
    _, uri, _ = running

    async with connected(uri) as client:
        notes = client.shelf.get_collection(
            "notes", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )
        await notes.insert_one({"_id": "written"})

        async def move(session: AsyncClientSession) -> None:
            await notes.delete_one({"_id": "written"}, session=session)
            await notes.insert_one({"_id": "moved"}, session=session)

        async with await notes.watch() as changes, client.start_session() as session:
            await session.with_transaction(move)
            kinds = [(await anext(changes))["operationType"] for _ in range(2)]

        assert kinds == ["delete", "insert"]
        assert [note["_id"] async for note in notes.find()] == ["moved"]


async def test_it_listens_on_loopback_alone_and_leaves_no_socket_file(running: Running) -> None:
    _, uri, _ = running

    async with connected(uri) as client:
        options = (await client.admin.command("getCmdLineOpts"))["parsed"]["net"]

    assert options["bindIp"] == "127.0.0.1"
    assert options["unixDomainSocket"] == {"enabled": False}


async def test_ctrl_c_in_the_terminal_of_the_service_does_not_reach_it(running: Running) -> None:
    mongod, _, _ = running

    sessions = {os.getsid(pid) for pid in (mongod.pid, mongod.guard_pid) if pid}

    assert sessions == {mongod.guard_pid}


async def test_it_may_open_as_many_files_as_its_user(running: Running) -> None:
    mongod, _, _ = running
    assert mongod.pid is not None

    soft, hard = resource.prlimit(mongod.pid, resource.RLIMIT_NOFILE)

    assert soft == hard


async def test_a_second_service_on_the_same_directory_is_refused_at_once(running: Running) -> None:
    _, _, data_dir = running
    second = EmbeddedMongod(data_dir)

    async with asyncio.timeout(1):
        message = await start_error(second)

    assert message.startswith(f"DATA_DIR {data_dir} is in use by another service (pid {os.getpid()})")


async def test_a_database_that_another_mongod_holds_is_named_after_some_waiting(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mongod, _, data_dir = running
    (tmp_path / "mongo").symlink_to(data_dir / "mongo")
    monkeypatch.setattr(embedded_mongod, "_RETRY_SECONDS", 0.0)

    message = await start_error(EmbeddedMongod(tmp_path))

    assert f"DATA_DIR {tmp_path} is in use by another mongod (pid {mongod.pid})" in message


@pytest.mark.slow
async def test_a_port_lost_to_another_mongod_is_given_up_and_that_mongod_is_left_alone(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uri, data_dir = running
    lost_port = int((data_dir / "mongod.port").read_text())
    find_free_port: Callable[[int], int] = embedded_mongod.__dict__["_free_port"]
    ports = iter([lost_port])

    def lose_the_first(wanted: int) -> int:
        return next(ports, 0) or find_free_port(wanted)

    monkeypatch.setattr(embedded_mongod, "_free_port", lose_the_first)
    mongod = EmbeddedMongod(tmp_path)

    try:
        second_uri = await mongod.start()

        assert second_uri != uri
        async with connected(uri) as client:
            assert (await client.admin.command("replSetGetConfig"))["config"]["version"] == 1
    finally:
        await crash(mongod)


@pytest.mark.slow
async def test_stopping_twice_is_stopping_once_and_a_restart_has_the_same_port_and_documents(tmp_path: Path) -> None:
    mongod = EmbeddedMongod(tmp_path / "new" / "data")

    try:
        first_uri = await mongod.start()
        async with connected(first_uri) as client:
            await client.shelf.notes.insert_one({"_id": "kept"})
        await mongod.stop()
        await mongod.stop()
        assert await mongod.wait() == 0
        second_uri = await mongod.start()

        assert second_uri == first_uri
        async with connected(second_uri) as client:
            assert await client.shelf.notes.find_one() == {"_id": "kept"}
    finally:
        await crash(mongod)


@pytest.mark.slow
@pytest.mark.parametrize("taken", [False, True], ids=["another port", "old port taken"])
async def test_a_restart_on_another_port_keeps_the_replica_set_and_its_documents(tmp_path: Path, taken: bool) -> None:
    mongod = EmbeddedMongod(tmp_path)
    port_file = tmp_path / "mongod.port"

    try:
        async with connected(await mongod.start()) as client:
            await client.shelf.notes.insert_one({"_id": "kept"})
            before = (await client.admin.command("replSetGetConfig"))["config"]
        await crash(mongod)
        old_port = int(port_file.read_text())
        port_file.write_text(str(old_port) if taken else "no port at all")
        with silent_listener(old_port) if taken else nullcontext():
            async with asyncio.timeout(30), connected(await mongod.start()) as client:
                after = (await client.admin.command("replSetGetConfig"))["config"]
                await client.shelf.notes.insert_one({"_id": "new"})
                notes = [note["_id"] async for note in client.shelf.notes.find()]

        assert notes == ["kept", "new"]
        assert after["settings"]["replicaSetId"] == before["settings"]["replicaSetId"]
        assert after["members"][0]["host"] != before["members"][0]["host"]
    finally:
        await crash(mongod)


@pytest.mark.slow
async def test_a_killed_service_leaves_nothing_behind_and_its_directory_starts_again_right_away(tmp_path: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, str(tmp_path), cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    successor = EmbeddedMongod(tmp_path)

    try:
        assert service.stdout
        pids = [int(pid) for pid in (await service.stdout.readline()).split()]
        assert [is_alive(pid) for pid in pids] == [True, True]
        service.kill()
        await service.wait()
        async with connected(await successor.start()) as client:
            notes = [note async for note in client.shelf.notes.find()]

        assert notes == [{"_id": "kept"}]
        await until(lambda: not any(is_alive(pid) for pid in pids))
    finally:
        with suppress(ProcessLookupError):
            service.kill()
        await service.wait()
        await crash(successor)


LINUX_ALONE = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "status"), [("mongod", 128 + 9), pytest.param("guard", -9, marks=LINUX_ALONE)], ids=["mongod", "guard"]
)
async def test_killing_mongod_or_its_guard_ends_both_and_is_reported(tmp_path: Path, victim: str, status: int) -> None:
    mongod = EmbeddedMongod(tmp_path)

    try:
        await mongod.start()
        pids = {"mongod": mongod.pid or 0, "guard": mongod.guard_pid or 0}
        assert all(pids.values())
        os.kill(pids[victim], signal.SIGKILL)

        assert await mongod.wait() == status
        await until(lambda: not any(is_alive(pid) for pid in pids.values()))
    finally:
        await mongod.stop()
