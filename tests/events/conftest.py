# pyright: reportPrivateUsage=false
# Faults stand where the log hands a group to MongoDB.
"""A database for the event tests, trees in it, and ways to watch what their logs do."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from beanie import init_beanie
from bson import ObjectId

from app.database.connection import DOCUMENTS, Database, Raw, connect
from app.events.log import tree_log as log_module
from app.events.log.log_rows import GroupWrite, Stored
from app.events.log.tree_log import TreeLog
from app.events.stream.bus import Committed, InProcessBus
from app.events.types import AgentResponse, Frame
from app.kit.json_values import JsonObject
from app.models.agent_execution import AgentExecution, ExecutionStatus

ENDED: JsonObject = {"status": ExecutionStatus.COMPLETED.value}


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


class RecordingBus(InProcessBus):
    """The bus, with a list of all that was published."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Committed] = []

    def publish(self, committed: Committed) -> None:
        """Note it and pass it on."""
        self.published.append(committed)
        super().publish(committed)

    @property
    def frames(self) -> list[Frame]:
        """All frames, in the order of their publication."""
        return [frame for committed in self.published for frame in committed.frames]


@dataclass
class Tree:
    """A stored run tree and the log of whoever owns it."""

    database: Database
    bus: RecordingBus
    root: AgentExecution
    losses: int = 0
    logs: list[TreeLog] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The root's id."""
        return self.root.execution_id

    @property
    def executions(self) -> Any:  # noqa: ANN401 - PyMongo's collection of raw documents
        """The collection."""
        return self.database[AgentExecution.get_collection_name()]

    def open_log(self, *, fence: int = 1, last_seq: int = 0) -> TreeLog:
        """The log of an owner of the tree, which knows the root alone."""
        log = TreeLog(self.database, self.bus, self.id, fence, last_seq, self._lose)
        assert self.root.id is not None
        log.open({self.id: Stored(self.root.id)})
        self.logs.append(log)
        return log

    def _lose(self) -> None:
        self.losses += 1

    def new_child(self) -> AgentExecution:
        """A child that is not in the tree yet."""
        return new_execution(self.id, parent=self.id)

    async def document(self, execution_id: str | None = None) -> Raw:
        """A document of the tree as it is stored."""
        found = await self.executions.find_one({"executionId": execution_id or self.id})
        assert found is not None
        return found

    async def numbers(self, execution_id: str | None = None) -> list[int]:
        """The numbers of a document's rows."""
        return [row["event"]["seq"] for row in (await self.document(execution_id))["events"]]

    async def take_over(self, fence: int = 2) -> None:
        """Raise the fence on all documents, as another process does."""
        await self.executions.update_many({"rootExecutionId": self.id}, {"$set": {"fence": fence}})


def new_execution(root_id: str | None = None, *, parent: str | None = None) -> AgentExecution:
    """An execution under a new id, by default a root."""
    execution_id = f"exec_{ObjectId()}"
    return AgentExecution(
        execution_id=execution_id,
        prompt="Write.",
        root_execution_id=root_id or execution_id,
        parent_execution_id=parent,
        fence=1,
    )


@pytest.fixture
async def tree(database: Database) -> AsyncGenerator[Tree]:
    """A stored root without events; the logs opened on it are closed with the test."""
    root = new_execution()
    await root.insert()
    made = Tree(database, RecordingBus(), root)
    yield made
    for log in made.logs:
        await log.close()


def said(text: object) -> AgentResponse:
    """An event with a text."""
    return AgentResponse(agent_id="ada-001", content=str(text))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event tells of, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what the log does inside sets no event here
            await asyncio.sleep(0.002)


Write = Callable[[GroupWrite], Awaitable[int]]
Fault = Callable[[Write, GroupWrite], Awaitable[int]]


class Faults:
    """The faults of the next writes of rows, one each; the others succeed."""

    def __init__(self) -> None:
        self.coming: list[Fault] = []
        self.writes: list[GroupWrite] = []


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
