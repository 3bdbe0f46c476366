"""One agent run beside the two model calls that it consists of, against one model server, in interleaved rounds."""

import contextlib
import json
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvloop
from rich.table import Table

from benchmarks.children import Child, running, usage_of
from benchmarks.load import Sample, Target, client_session, drive
from benchmarks.model_server import ANSWER
from benchmarks.service import (
    PROMPT,
    agent_run_target,
    insert_agent,
    model_server_command,
    running_service,
    service_environment,
    write_models_config,
)
from benchmarks.tables import goal, table_of

ROUNDS = 7
WARM_UP_SECONDS = 1.0
SECONDS_AT = {1: 1.5, 16: 1.5, 64: 2.0}
"""How long a round measures each target at each concurrency."""
RATIO_GOAL = 1.25
SERVICE, ROUTER, PLAIN = "agent run", "2 Router.acompletion", "2 litellm.acompletion"


@dataclass
class Comparison:
    """The measurements: for each target and concurrency one sample per round, and the memory before and after."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=dict)
    idle_mb: dict[str, float] = field(default_factory=dict)
    loaded_mb: dict[str, float] = field(default_factory=dict)

    def median(self, name: str, at_once: int, figure: str) -> float:
        """The middle round's figure."""
        return statistics.median(getattr(sample, figure) for sample in self.samples[name, at_once])

    def ratio(self, name: str, to: str, at_once: int, figure: str) -> float:
        """The middle of the rounds' ratios: each round compares neighbors in time."""
        pairs = zip(self.samples[name, at_once], self.samples[to, at_once], strict=True)
        return statistics.median(getattr(one, figure) / getattr(other, figure) for one, other in pairs)


def measure_agent_run() -> Comparison:
    """Start everything, measure, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, targets(Path(name)) as found:
        return uvloop.run(compare(found))


@contextlib.contextmanager
def targets(directory: Path) -> Generator[list[Target]]:
    """The service and the bare server, warm, both on the same model server."""
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(running("model-server", model_server_command(), {}, directory))
        model.wait_until_ready("/")
        config = write_models_config(directory / "models.yaml", model.url)
        service = stack.enter_context(running_service(service_environment(directory, config), directory))
        uvloop.run(insert_agent(directory / "data"))
        run = agent_run_target(service)
        requests = record_requests(run, model, directory)
        environment = {
            "MODELS_CONFIG": str(config),
            "REQUESTS_FILE": str(requests),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import looks for a price list on the network
        }
        command = [sys.executable, "-m", "benchmarks.bare_litellm"]
        bare = stack.enter_context(running("bare-litellm", command, environment, directory))
        bare.wait_until_ready("/healthz")
        yield [run, bare_target(bare, ROUTER, "/router"), bare_target(bare, PLAIN, "/plain")]


def record_requests(run: Target, model: Child, directory: Path) -> Path:
    """The two requests that a run sends to the model, in a file."""
    uvloop.run(run_once(run))
    path = directory / "requests.json"
    with urllib.request.urlopen(model.url) as answer:  # noqa: S310 - a loopback address
        path.write_text(json.dumps(json.load(answer)), encoding="utf-8")
    return path


async def run_once(target: Target) -> None:
    """One request, to see that it works."""
    async with client_session() as http:
        await drive(http, target, seconds=0, at_once=1)


def bare_target(bare: Child, name: str, path: str) -> Target:
    """Two bare calls, with a request and an answer of the same kind as a run's."""
    return Target(
        name=name,
        url=bare.url + path,
        pid=bare.process.pid,
        headers={"Content-Type": "application/json"},
        body=orjson.dumps({"prompt": PROMPT}),
        expected=ANSWER.encode(),
    )


async def compare(found: list[Target]) -> Comparison:
    """Measure the targets in turns, each round in another order."""
    comparison = Comparison()
    for target in found:
        comparison.idle_mb[target.name] = usage_of(target.pid).resident_mb
        for at_once in (16, 1):
            await sample_of_load(target, WARM_UP_SECONDS, at_once)
    for at_once, seconds in SECONDS_AT.items():
        for turn in range(ROUNDS):
            first = turn % len(found)
            for target in found[first:] + found[:first]:
                sample = await sample_of_load(target, seconds, at_once)
                comparison.samples.setdefault((target.name, at_once), []).append(sample)
    for target in found:
        comparison.loaded_mb[target.name] = usage_of(target.pid).resident_mb
    return comparison


async def sample_of_load(target: Target, seconds: float, at_once: int) -> Sample:
    """One measurement, over connections of its own: servers close those that rest while others are measured."""
    async with client_session() as http:
        return await drive(http, target, seconds=seconds, at_once=at_once)


def agent_run_tables() -> Iterator[Table]:
    """One run at a time, and many at once."""
    comparison = measure_agent_run()
    yield one_run_table(comparison)
    yield throughput_table(comparison)


def one_run_table(comparison: Comparison) -> Table:
    """One run at a time."""
    table = table_of(
        "One agent run (two model calls, one tool call), one at a time",
        "ms median", "p95", "ratio to Router", "to acompletion", "CPU ms", "mongod CPU", "tool CPU",
    )  # fmt: skip
    for name in (PLAIN, ROUTER, SERVICE):
        to_router = comparison.ratio(name, ROUTER, 1, "median_ms")
        to_plain = comparison.ratio(name, PLAIN, 1, "median_ms")
        figures = [comparison.median(name, 1, one) for one in ("own_cpu_ms", "database_cpu_ms", "other_cpu_ms")]
        table.add_row(
            name,
            f"{comparison.median(name, 1, 'median_ms'):.2f}",
            f"{comparison.median(name, 1, 'p95_ms'):.2f}",
            goal(f"{to_router:.2f}", met=to_router <= RATIO_GOAL) if name == SERVICE else f"{to_router:.2f}",
            f"{to_plain:.2f}",
            *(f"{figure:.2f}" for figure in figures),
        )
    return table


def throughput_table(comparison: Comparison) -> Table:
    """Many runs at once, and what they leave in memory."""
    headings = [f"runs/s at {at_once}" for at_once in SECONDS_AT]
    table = table_of("Runs a second, and memory", *headings, "CPU ms at 16", "MiB idle", "MiB after")
    for name in (PLAIN, ROUTER, SERVICE):
        table.add_row(
            name,
            *(throughput(comparison, name, at_once) for at_once in SECONDS_AT),
            f"{comparison.median(name, 16, 'own_cpu_ms'):.2f}",
            f"{comparison.idle_mb[name]:.0f}",
            f"{comparison.loaded_mb[name]:.0f}",
        )
    return table


def throughput(comparison: Comparison, name: str, at_once: int) -> str:
    """Runs a second, and for the service their ratio to the Router's."""
    per_second = f"{comparison.median(name, at_once, 'per_second'):.0f}"
    if name != SERVICE:
        return per_second
    return f"{per_second} ({comparison.ratio(name, ROUTER, at_once, 'per_second'):.2f})"
