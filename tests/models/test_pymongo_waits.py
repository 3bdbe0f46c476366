"""A client of MongoDB survives callers that are cancelled again and again while they wait for a server."""

import asyncio

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import ServerSelectionTimeoutError

from app.models.pymongo_waits import make_waits_safe

NOBODY = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"
CALLERS, ROUNDS, CANCELS = 60, 4, 4
PATIENCE_SECONDS = 20


async def test_cancelling_again_and_again_leaves_the_client_usable() -> None:
    make_waits_safe()
    async with AsyncMongoClient[dict[str, object]](NOBODY) as client, asyncio.timeout(PATIENCE_SECONDS):
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
