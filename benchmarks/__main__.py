"""The benchmarks, as tables: `python -m benchmarks [NAME ...]`, all of them when none is named."""

import platform
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import FrameType

from rich.console import Console
from rich.table import Table

from benchmarks.agent_run import agent_run_tables
from benchmarks.audit import audit_tables
from benchmarks.catalog import catalog_tables
from benchmarks.console import console_tables
from benchmarks.department_run import department_run_tables
from benchmarks.economy import economy_tables
from benchmarks.events import event_tables
from benchmarks.retention import retention_tables
from benchmarks.run_engine import run_engine_tables
from benchmarks.start_up import start_up_tables
from benchmarks.streams import streams_tables
from benchmarks.tools import tools_tables
from benchmarks.usage_analytics import usage_analytics_tables

PLAIN_WIDTH = 120
BENCHMARKS: dict[str, Callable[[], Iterator[Table]]] = {
    "agent-run": agent_run_tables,
    "start-up": start_up_tables,
    "catalog": catalog_tables,
    "department-run": department_run_tables,
    "tools": tools_tables,
    "streams": streams_tables,
    "events": event_tables,
    "console": console_tables,
    "run-engine": run_engine_tables,
    "retention": retention_tables,
    "audit": audit_tables,
    "economy": economy_tables,
    "usage-analytics": usage_analytics_tables,
}


def main(names: list[str]) -> None:
    """Measure and print; whatever was started has stopped when this returns, also on SIGTERM."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}.")
    signal.signal(signal.SIGTERM, leave)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    console.print(machine())
    for name in names or BENCHMARKS:
        for table in BENCHMARKS[name]():
            console.print(table, "", sep="\n")


def leave(_number: int, _frame: FrameType | None) -> None:
    """Turn the signal into an exit that closes what is open."""
    sys.exit(1)


def machine() -> str:
    """Describe the machine and the versions on which the figures were measured."""
    return (
        f"Python {platform.python_version()}, LiteLLM {version('litellm')}, PyMongo {version('pymongo')}, "
        f"{platform.system()} {platform.machine()}. Client, servers and database share the machine.\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
