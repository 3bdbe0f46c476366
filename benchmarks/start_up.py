"""How long the command line takes to say its help, and the service to be ready."""

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from app.database.embedded.mongod import EmbeddedMongod
from benchmarks.children import PROJECT_ROOT
from benchmarks.service import COMMAND, running_service, service_environment
from benchmarks.tables import goal, table_of

ROUNDS = 3
HELP_GOAL_SECONDS, EMBEDDED_GOAL_SECONDS, EXTERNAL_GOAL_SECONDS = 1.0, 5.0, 3.0
SET_PRICES_LOCAL = "import os; os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'"


@dataclass(frozen=True)
class StartUp:
    """Median seconds; `first_seconds` is the one start that makes its database."""

    import_litellm_seconds: float
    help_seconds: float
    first_seconds: float
    embedded_seconds: float
    external_seconds: float


def measure_start_up() -> StartUp:
    """Each start once, which warms the disk and makes the databases, then three rounds of all of them."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, external_mongod(Path(name)) as uri:
        embedded, external = Path(name) / "embedded", Path(name) / "external"
        parts: dict[str, Callable[[], float]] = {
            "help": lambda: time_command([COMMAND, "--help"]),
            "import": lambda: time_command([sys.executable, "-c", f"{SET_PRICES_LOCAL}; import litellm"]),
            "embedded": lambda: time_start(embedded, {}),
            "external": lambda: time_start(external, {"MONGODB_URI": uri, "SEED_ON_START": "true"}),
        }
        first = {part: measure() for part, measure in parts.items()}
        rounds = [{part: measure() for part, measure in parts.items()} for _ in range(ROUNDS)]
    medians = {part: statistics.median(one[part] for one in rounds) for part in parts}
    return StartUp(
        import_litellm_seconds=medians["import"],
        help_seconds=medians["help"],
        first_seconds=first["embedded"],
        embedded_seconds=medians["embedded"],
        external_seconds=medians["external"],
    )


@contextlib.contextmanager
def external_mongod(directory: Path) -> Generator[str]:
    """A mongod that is no part of the service."""
    mongod = EmbeddedMongod(directory / "mongod")
    with asyncio.Runner() as runner:
        uri = runner.run(mongod.start())
        try:
            yield uri
        finally:
            runner.run(mongod.stop())


def time_command(command: list[str]) -> float:
    """Seconds until a command has ended."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=PROJECT_ROOT)
    return time.perf_counter() - started


def time_start(directory: Path, settings: dict[str, str]) -> float:
    """Seconds from starting the service until it says that it is ready; stopping it does not count."""
    directory.mkdir(exist_ok=True)
    started = time.perf_counter()
    with running_service(service_environment(directory) | settings, directory):
        return time.perf_counter() - started


def start_up_tables() -> Iterator[Table]:
    """Seconds until something answers."""
    yield start_up_table(measure_start_up())


def start_up_table(found: StartUp) -> Table:
    """Seconds until something answers."""
    table = table_of("Start-up, warm", "seconds", "goal")
    rows = (
        ("dynamic-agents --help", found.help_seconds, HELP_GOAL_SECONDS),
        ("import litellm, for comparison", found.import_litellm_seconds, None),
        ("service ready, new embedded MongoDB", found.first_seconds, EMBEDDED_GOAL_SECONDS),
        ("service ready, embedded MongoDB", found.embedded_seconds, EMBEDDED_GOAL_SECONDS),
        ("service ready, external MongoDB", found.external_seconds, EXTERNAL_GOAL_SECONDS),
    )
    for name, seconds, limit in rows:
        shown = f"{seconds:.2f}"
        if limit is None:
            table.add_row(name, shown, "")
        else:
            table.add_row(name, goal(shown, met=seconds < limit), f"< {limit:.0f}")
    return table
