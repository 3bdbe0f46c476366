"""Reading the catalog and the executions, and loading a department for a run, with much stored."""

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from bson import ObjectId
from rich.table import Table

from app.database.connection import Database
from app.database.opening import open_database
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus
from app.models.base import new_row_id
from app.models.catalog.agent import Agent
from app.models.catalog.department import Department
from app.services.catalog.loader import DefinitionLoader
from app.settings import Settings
from benchmarks.children import Child, running
from benchmarks.load import client_session, drive
from benchmarks.service import (
    ADMIN_KEY,
    PROJECT,
    agent_run_target,
    insert_agent,
    model_server_command,
    running_service,
    service_environment,
    write_models_config,
)
from benchmarks.tables import table_of

AGENTS, DEPARTMENTS, EXECUTIONS = 1_000, 100, 100_000
BATCH = 5_000
READS = 300
LOADS = 200
RUN_SECONDS = 2.0
LOADED = "department-50"
READ_PATHS = {
    "an agent": "/api/v1/agents/agent-0500",
    "50 agents of 1,000": "/api/v1/agents",
    "the agents of a department": f"/api/v1/agents?department={LOADED}",
    "agents by a search text": "/api/v1/agents?q=number%20512",
    "50 departments": "/api/v1/departments",
    "50 executions of 100,000": "/api/v1/executions",
    "50 executions of a project": f"/api/v1/executions?project={PROJECT}",
    "50 failed executions": "/api/v1/executions?status=failed",
    "an execution": "/api/v1/executions/stored-050000",
}


@dataclass
class Found:
    """Milliseconds of each read by its name, and of a run with few and with many executions stored."""

    reads: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    run_few_ms: float = 0.0
    run_many_ms: float = 0.0


def catalog_tables() -> Iterator[Table]:
    """Reads over HTTP, loads in this process, and a run before and after the executions were stored."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        found = measure(Path(name))
    title = f"Reads with {AGENTS:,} agents and {EXECUTIONS:,} executions stored, one at a time"
    table = table_of(title, "ms p50", "ms p99")
    for read, milliseconds in found.reads.items():
        table.add_row(read, f"{statistics.median(milliseconds):.3f}", f"{percentile_99(milliseconds):.3f}")
    yield table
    growth = table_of("One agent run as executions grow", "ms median", "ratio")
    growth.add_row("nothing stored before", f"{found.run_few_ms:.2f}", "1.00")
    growth.add_row(f"{EXECUTIONS:,} stored", f"{found.run_many_ms:.2f}", f"{found.run_many_ms / found.run_few_ms:.2f}")
    yield growth


def percentile_99(values: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(values, n=100)[-1]


def measure(directory: Path) -> Found:
    """Start the service on a model server, fill its database, and measure."""
    with running("model-server", model_server_command(), {}, directory) as model:
        model.wait_until_ready("/")
        config = write_models_config(directory / "models.yaml", model.url)
        with running_service(service_environment(directory, config), directory) as service:
            uvloop.run(insert_agent(directory / "data"))
            return uvloop.run(measure_service(service, directory / "data"))


async def measure_service(service: Child, data_dir: Path) -> Found:
    """Measure a running service, first with an empty audit record, then with a large one."""
    found = Found()
    settings = Settings(_env_file=None, data_dir=data_dir)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    async with open_database(settings, share=True) as database, client_session() as http:
        found.run_few_ms = await time_runs(http, service)
        await fill(database)
        found.run_many_ms = await time_runs(http, service)
        for name, path in READ_PATHS.items():
            found.reads[name] = await time_each(READS, get_of(http, service.url + path))
        loader = DefinitionLoader(database, ttl_seconds=300)
        found.reads["loading a department for a run, cached"] = await time_each(LOADS, lambda: loader.get_team(LOADED))
        found.reads["loading a department for a run, not cached"] = await time_each(LOADS, lambda: load_anew(loader))
    return found


async def time_runs(http: aiohttp.ClientSession, service: Child) -> float:
    """The median milliseconds of one agent run, after a warm-up."""
    target = agent_run_target(service)
    await drive(http, target, seconds=RUN_SECONDS / 2, at_once=1)
    return (await drive(http, target, seconds=RUN_SECONDS, at_once=1)).median_ms


async def time_each(count: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    """The milliseconds of each of some calls, one after the other, after one that is not counted."""
    await call()
    took: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        await call()
        took.append((time.perf_counter() - started) * 1000)
    return took


def get_of(http: aiohttp.ClientSession, url: str) -> Callable[[], Awaitable[None]]:
    """A GET with the admin key that must answer 200 with something in it."""

    async def get() -> None:
        async with http.get(url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as answer:
            body = await answer.json()
            assert answer.status == 200, body
            assert body.get("items") != [], url

    return get


async def load_anew(loader: DefinitionLoader) -> None:
    """Load a department that is not cached."""
    loader.forget_all()
    await loader.get_team(LOADED)


async def fill(database: Database) -> None:
    """Store departments, agents and finished executions."""
    departments = [Department(slug=f"department-{place}", name=f"Department {place}") for place in range(DEPARTMENTS)]
    for department in departments:
        department.id = ObjectId()  # pyright: ignore[reportAttributeAccessIssue] - PydanticObjectId is one
    await database["departments"].insert_many([one.as_stored() for one in departments])
    agents = [agent_of(place, departments[place % DEPARTMENTS]) for place in range(AGENTS)]
    await database["agents"].insert_many([one.as_stored() for one in agents])
    for start in range(0, EXECUTIONS, BATCH):
        batch = [execution_of(place, agents[place % AGENTS]) for place in range(start, start + BATCH)]
        await database["agent-executions"].insert_many(batch, ordered=False)


def agent_of(place: int, department: Department) -> Agent:
    """One of the many agents; the first of each department is its head."""
    agent = Agent(
        agent_id=f"agent-{place:04}",
        name=f"Agent number {place}",
        department=department.id,
        is_department_head=place < DEPARTMENTS,
        instructions_prompt="Work with care. " * 100,
    )
    agent.id = ObjectId()  # pyright: ignore[reportAttributeAccessIssue] - PydanticObjectId is one
    return agent


def execution_of(place: int, agent: Agent) -> dict[str, Any]:
    """One of the many executions: a few events, an output, one in ten failed."""
    execution_id = f"stored-{place:06}"
    started = utc_now() - timedelta(seconds=place)
    stamp = {"executionId": execution_id, "rootExecutionId": execution_id, "timestamp": started.isoformat()}
    events = [{"event": {"type": "agent-response", "seq": seq, "content": "word " * 40, **stamp}} for seq in (1, 2, 3)]
    execution = AgentExecution(
        execution_id=execution_id,
        root_execution_id=execution_id,
        agent=agent.id,
        department=agent.department,
        project=ObjectId(PROJECT) if place % 100 == 0 else ObjectId(),  # pyright: ignore[reportArgumentType]
        prompt="Write a scene.",
        output={"text": "word " * 100, "data": None},
        events=[{**row, "id": new_row_id()} for row in events],
        status=ExecutionStatus.COMPLETED if place % 10 else ExecutionStatus.FAILED,
        started_at=started,
        completed_at=started,
        execution_time=1000,
        last_seq=3,
        fence=1,
    )
    return execution.as_stored()
