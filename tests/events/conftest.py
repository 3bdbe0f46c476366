# pyright: reportPrivateUsage=false
# Faults stand where the log hands a group to MongoDB.
"""A database for the event tests, trees in it, and ways to watch what their logs do."""

from collections.abc import AsyncGenerator

import pytest
from beanie import init_beanie

from app.database.connection import DOCUMENTS, Database, connect
from app.events.log import tree_log as log_module
from app.events.log.log_rows import GroupWrite
from app.events.log.tree_log import TreeLog
from tests.fixtures.event_trees import Faults, RecordingBus, Tree, new_execution


@pytest.fixture(scope="session")
async def events_database(mongod_uri: str) -> AsyncGenerator[Database]:
    """The database behind `database`."""
    opened = await connect(mongod_uri.replace("/?", "/test_events?"))
    yield opened
    await opened.client.close()


@pytest.fixture
async def database(events_database: Database) -> Database:
    """One database for all event tests, without indexes; each test makes trees of its own."""
    await init_beanie(database=events_database, document_models=list(DOCUMENTS), skip_indexes=True)
    return events_database


@pytest.fixture
async def tree(database: Database) -> AsyncGenerator[Tree]:
    """A stored root without events; the logs opened on it are closed with the test."""
    root = new_execution()
    await root.insert()
    made = Tree(database, RecordingBus(), root)
    yield made
    for log in made.logs:
        await log.close()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Faults between the log and MongoDB, and a list of the writes tried."""
    planned = Faults()
    whole = TreeLog._write

    async def write_or_fail(log: TreeLog, updates: GroupWrite) -> int:
        async def write(some: GroupWrite) -> int:
            return await whole(log, some)

        planned.writes.append(updates)
        fault = planned.coming.pop(0) if planned.coming else None
        return await (fault(write, updates) if fault else write(updates))

    monkeypatch.setattr(TreeLog, "_write", write_or_fail)
    monkeypatch.setattr(log_module, "RETRY_PAUSE_SECONDS", 0.01)
    return planned
