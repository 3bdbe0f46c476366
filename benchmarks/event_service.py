"""The service with a lever: the real application and its event rooms, and routes that append events on demand."""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import uvicorn
import uvloop
from bson import ObjectId
from fastapi import FastAPI, Request
from pydantic import SecretStr

from app.database.connection import Raw
from app.dependencies import Services
from app.events.log.log_rows import Stored
from app.events.log.tree_log import TreeLog
from app.events.replay import read_frames, read_head
from app.events.types import AgentComplete, AgentResponse, AgentStart
from app.kit.times import utc_now
from app.main import create_app, open_services
from app.models.agent_execution import AgentExecution, ExecutionKind, ExecutionStatus, StartedBy
from app.models.execution_events import ExecutionEventPage
from app.server.server import server_options
from app.settings import Settings

LAG_EVERY_SECONDS = 0.01
FILL_STEP = 20
GROWTH_STEP = 20
GROWTH_AT = (100, 2_000, 20_000)
LARGE_RUN_EVENTS = 40_000
RUNS_A_STEP = 1_000


class Lever:
    """Trees that only this benchmark runs."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.logs: dict[str, TreeLog] = {}

    async def new_tree(self) -> str:
        """Store a root and open its log."""
        execution_id = f"exec_{ObjectId()}"
        root = AgentExecution(
            execution_id=execution_id,
            prompt="x",
            kind=ExecutionKind.AGENT,
            root_execution_id=execution_id,
            status=ExecutionStatus.RUNNING,
            fence=1,
        )
        inserted = await self.services.database[AgentExecution.get_collection_name()].insert_one(root.as_stored())
        log = TreeLog(self.services.database, self.services.bus, execution_id, 1, 0, lambda: None)
        log.open({execution_id: Stored(inserted.inserted_id)})
        self.logs[execution_id] = log
        return execution_id

    async def append(self, ids: list[str], rate: float, seconds: float, text: str) -> dict[str, list[int]]:
        """Append at a rate, in turn to each tree; when each event was appended, on the machine's monotonic clock."""
        times: dict[str, list[int]] = {one: [] for one in ids}
        started = time.monotonic()
        for number in range(int(rate * seconds)):
            delay = started + number / rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            execution_id = ids[number % len(ids)]
            times[execution_id].append(time.monotonic_ns())
            self.logs[execution_id].append(execution_id, AgentResponse(agent_id="ada-001", content=text))
        return times

    async def large_tree(self, executions: int, text: str) -> str:
        """An ended tree of so many executions, each with three events."""
        execution_id = await self.new_tree()
        log = self.logs[execution_id]
        found = self.services.database[AgentExecution.get_collection_name()]
        root = AgentExecution.model_validate(await found.find_one({"executionId": execution_id}))
        log.append(execution_id, AgentStart(agent_id="ada-001", name="Ada", prompt=text))
        for number in range(executions - 1):
            child = AgentExecution.new_child(
                root, execution_id, agent=None, department=None, kind=ExecutionKind.AGENT, prompt=text
            )
            await log.add_child(child)
            name = f"bob-{number:03}"
            log.append(child.execution_id, AgentStart(agent_id=name, name=name.title(), prompt=text))
            log.append(child.execution_id, AgentResponse(agent_id=name, content=text))
            self._end(log, child.execution_id, name, text)
        self._end(log, execution_id, "ada-001", text)
        await log.committed()
        return execution_id

    def _end(self, log: TreeLog, execution_id: str, agent_id: str, text: str) -> None:
        output = {"text": text, "data": None}
        last = AgentComplete(agent_id=agent_id, output=output, token_usage={}, cost_usd=0.0, stop_reason="completed")
        ended = {"status": ExecutionStatus.COMPLETED.value, "completedAt": utc_now(), "output": output}
        log.append(execution_id, last, changes=ended)

    async def many_runs(self, count: int, text: str) -> int:
        """Store so many ended runs, each a second after the one before; returns their number."""
        executions = self.services.database[AgentExecution.get_collection_name()]
        first = utc_now() - timedelta(seconds=count)
        for start in range(0, count, RUNS_A_STEP):
            rows = [ended_run(number, first, text) for number in range(start, min(start + RUNS_A_STEP, count))]
            await executions.insert_many(rows, ordered=False)
        return count

    async def fill(self, count: int, text: str) -> str:
        """A tree with so many events."""
        execution_id = await self.new_tree()
        for number in range(count):
            self.logs[execution_id].append(execution_id, AgentResponse(agent_id="ada-001", content=text))
            if number % FILL_STEP == 0:
                await self.logs[execution_id].room()
                await asyncio.sleep(0)
        await self.logs[execution_id].committed()
        return execution_id

    async def growth(self) -> dict[str, float]:
        """Milliseconds an event, in groups of 20 that are waited for, when so many are stored already."""
        execution_id = await self.new_tree()
        log = self.logs[execution_id]
        found: dict[str, float] = {}
        for count in GROWTH_AT:
            while log.last_seq < count:
                append_group(log, execution_id, min(500, count - log.last_seq))
                await log.committed()
            took: list[float] = []
            for _ in range(25):
                started = time.perf_counter()
                append_group(log, execution_id, GROWTH_STEP)
                await log.committed()
                took.append((time.perf_counter() - started) * 1000 / GROWTH_STEP)
            found[str(count)] = sorted(took)[len(took) // 2]
        return found

    async def large_run(self) -> dict[str, float]:
        """40,000 events of 1 KB: how long they take, the largest document, and a page of replay early and late."""
        started = time.perf_counter()
        execution_id = await self.fill(LARGE_RUN_EVENTS, "x" * 850)
        stored = time.perf_counter() - started
        database = self.services.database
        head = await read_head(database, execution_id)
        pages: list[float] = []
        after = 0
        while True:
            started = time.perf_counter()
            frames = await read_frames(database, head, after)
            if not frames:
                break
            pages.append((time.perf_counter() - started) * 1000)
            after = frames[-1].seq
        executions, paged = AgentExecution.get_collection_name(), ExecutionEventPage.get_collection_name()
        documents = [await database[executions].find_one({"executionId": execution_id})]
        documents += await database[paged].find({"executionId": execution_id}).to_list()
        return {
            "seconds": stored,
            "replayed": after,
            "largest_mb": max(len(bson.encode(one)) for one in documents if one) / 2**20,
            "first_page_ms": sum(pages[1:6]) / 5,
            "last_page_ms": sum(pages[-7:-2]) / 5,
        }


def ended_run(number: int, first: datetime, text: str) -> Raw:
    """An ended run of one agent as it is stored; one in a hundred has a rare word in its prompt."""
    at = first + timedelta(seconds=number)
    word = "lighthouse" if number % 100 == 0 else "harbor"
    run = AgentExecution.new_root(
        agent=None,  # pyright: ignore[reportArgumentType] - of a deleted agent
        department=None,  # pyright: ignore[reportArgumentType]
        kind=ExecutionKind.AGENT,
        prompt=f"Describe the {word} of town {number}. {text}",
        status=ExecutionStatus.COMPLETED,
        started_at=at,
        completed_at=at,
        created_at=at,
        cost_usd=number / 1_000_000,
        listed_cost_usd=number / 1_000_000,
        output={"text": text, "data": None},
        token_usage={"input": 10, "output": 10, "total": 20, "cacheRead": 0, "cacheWrite": 0},
        quality_score=90.0,
        started_by=StartedBy(type="api-key", name="nightly", api_key=f"key-{number % 10}"),
    )
    return run.as_stored()


def append_group(log: TreeLog, execution_id: str, count: int) -> None:
    """Append so many events of half a kilobyte."""
    for _ in range(count):
        log.append(execution_id, AgentResponse(agent_id="ada-001", content="x" * 350))


async def measure_lag(lags: list[float]) -> None:
    """How late the event loop comes to what is due, in milliseconds."""
    while True:
        due = time.monotonic() + LAG_EVERY_SECONDS
        await asyncio.sleep(LAG_EVERY_SECONDS)
        lags.append((time.monotonic() - due) * 1000)


def add_lever(app: FastAPI, lever: Lever) -> None:
    """The routes of the benchmark."""
    lags: list[float] = []
    tasks: list[asyncio.Task[None]] = []

    async def pull(request: Request) -> Any:  # noqa: ANN401 - any JSON value
        asked: dict[str, Any] = await request.json()
        works: dict[str, Callable[..., Any]] = {
            "fill": lever.fill,
            "append": lever.append,
            "growth": lever.growth,
            "large_run": lever.large_run,
            "new_tree": lever.new_tree,
            "large_tree": lever.large_tree,
            "many_runs": lever.many_runs,
        }
        if not tasks:
            tasks.append(asyncio.create_task(measure_lag(lags)))
        lags.clear()
        result = await works[asked.pop("do")](**asked)
        return {"result": result, "lag_p99_ms": sorted(lags)[int(len(lags) * 0.99)] if lags else 0.0}

    app.add_api_route("/pull", pull, methods=["POST"])


async def serve() -> None:
    """Serve until stopped, on `PORT`."""
    settings = Settings(
        _env_file=None,  # pyright: ignore[reportCallIssue] - pydantic-settings' own
        data_dir=Path("data"),
        admin_api_key=SecretStr(os.environ["ADMIN_API_KEY"]),
        log_level="error",
    )
    async with open_services(settings) as services:
        app = create_app(settings, services)
        add_lever(app, Lever(services))
        options = server_options(settings)
        config = uvicorn.Config(
            app, port=int(os.environ["PORT"]), log_config=None, access_log=False, backlog=4096, **options
        )
        gc.freeze()  # as the command does
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve())
