"""A MongoDB client survives callers that are cancelled: while they wait for a server, and for a locked document."""

import asyncio
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import ServerSelectionTimeoutError

from app.database.connection import Database
from app.database.pymongo_patch import patch_client

NOBODY = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"
CALLERS, ROUNDS, CANCELS = 60, 4, 4
PATIENCE_SECONDS = 20


@pytest.mark.slow
def test_cancelling_again_and_again_leaves_the_client_usable() -> None:
    """In a thread of its own: waits for a lock that is never released end neither by a cancel nor with their loop."""
    patch_client()
    outcome = Future[None]()
    Thread(target=run_storm, args=(outcome,), daemon=True).start()

    outcome.result(PATIENCE_SECONDS)


def run_storm(outcome: Future[None]) -> None:
    """Tell how the storm ends, as soon as it does."""
    try:
        outcome.set_result(asyncio.run(cancel_again_and_again()))
    except BaseException as error:  # noqa: BLE001 - the edge of the thread
        outcome.set_exception(error)


async def cancel_again_and_again() -> None:
    """Cancel callers that wait for a server, each several times; the last call is not cancelled."""
    async with AsyncMongoClient[dict[str, Any]](NOBODY) as client:
        for _ in range(ROUNDS):
            calls = [asyncio.create_task(client.admin.command("ping")) for _ in range(CALLERS)]
            with pytest.raises(ServerSelectionTimeoutError):
                await client.admin.command("ping")
            calls += [asyncio.create_task(client.admin.command("ping")) for _ in range(CALLERS)]
            for _ in range(CANCELS):
                for call in calls[::2]:
                    call.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(*calls, return_exceptions=True)

        with pytest.raises(ServerSelectionTimeoutError):
            await client.admin.command("ping")


async def test_the_write_after_a_cancelled_one_does_not_wait_for_its_lock(database: Database) -> None:
    """MongoDB runs the operations of a session one after another, so the session of a cancelled write is not reused."""
    documents = database["documents"]
    await documents.insert_many([{"_id": "locked"}, {"_id": "free"}])
    async with database.client.start_session() as session, await session.start_transaction():
        await documents.update_one({"_id": "locked"}, {"$set": {"by": "transaction"}}, session=session)
        write = asyncio.create_task(documents.update_one({"_id": "locked"}, {"$set": {"by": "write"}}))
        await asyncio.sleep(0.5)
        assert not write.done()
        write.cancel()
        await asyncio.wait([write])

        async with asyncio.timeout(5):
            await documents.update_one({"_id": "free"}, {"$set": {"by": "next"}})

        await session.abort_transaction()
