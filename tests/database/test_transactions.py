"""Transactions end in time, and with them whoever was cancelled meanwhile."""

import asyncio

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from app.database import transactions
from app.database.connection import Database
from app.database.transactions import in_transaction


async def test_all_of_it_is_stored_or_nothing(database: Database) -> None:
    async def half(session: AsyncClientSession) -> None:
        await database["things"].insert_one({"_id": "first"}, session=session)
        raise LookupError

    with pytest.raises(LookupError):
        await in_transaction(database, half)
    assert await database["things"].count_documents({}) == 0


async def test_one_that_always_meets_another_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "TRANSACTION_SECONDS", 0.3)
    await database["things"].insert_one({"_id": "contested", "by": "none"})

    async def change(session: AsyncClientSession, by: str) -> None:
        await database["things"].update_one({"_id": "contested"}, {"$set": {"by": by}}, session=session)

    async with database.client.start_session() as other:
        await other.start_transaction()
        await change(other, "the other")
        async with asyncio.timeout(10):
            with pytest.raises(OperationFailure):
                await in_transaction(database, lambda session: change(session, "us"))
        await other.commit_transaction()

    assert await database["things"].find_one({}) == {"_id": "contested", "by": "the other"}


@pytest.mark.parametrize("fails", [True, False])
async def test_a_cancellation_that_was_swallowed_within_is_one_still(database: Database, *, fails: bool) -> None:
    began = asyncio.Event()

    async def swallow(_: AsyncClientSession) -> str:
        began.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if fails:
                raise LookupError from None
        return "as if nothing had been"

    task = asyncio.create_task(in_transaction(database, swallow))
    await began.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
