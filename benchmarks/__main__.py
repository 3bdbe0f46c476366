"""The benchmarks, as tables: `python -m benchmarks`."""

import platform
import signal
import sys
from importlib.metadata import version
from types import FrameType

from rich.console import Console
from rich.table import Table

from benchmarks.agent_run import PLAIN, ROUTER, SECONDS_AT, SERVICE, Comparison, measure_agent_run
from benchmarks.start_up import StartUp, measure_start_up

PLAIN_WIDTH = 120
RATIO_GOAL = 2.0
HELP_GOAL_SECONDS, READY_GOAL_SECONDS = 1.0, 8.0


def main() -> None:
    """Measure everything and print it; whatever was started has stopped when this returns, also on SIGTERM."""
    signal.signal(signal.SIGTERM, leave)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    console.print(machine())
    comparison = measure_agent_run()
    for table in (one_run_table(comparison), throughput_table(comparison)):
        console.print(table, "", sep="\n")
    console.print(start_up_table(measure_start_up()))


def leave(_number: int, _frame: FrameType | None) -> None:
    """Turn the signal into an exit that closes what is open."""
    sys.exit(1)


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"Python {platform.python_version()}, LiteLLM {version('litellm')}, PyMongo {version('pymongo')}, "
        f"{platform.system()} {platform.machine()}. Client, servers and database share the machine.\n"
    )


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


def start_up_table(found: StartUp) -> Table:
    """Seconds until something answers."""
    table = table_of("Start-up, warm", "seconds", "goal")
    rows = (
        ("dynamic-agents --help", found.help_seconds, HELP_GOAL_SECONDS),
        ("import litellm, for comparison", found.import_litellm_seconds, None),
        ("service ready, new embedded MongoDB", found.first_seconds, None),
        ("service ready, embedded MongoDB", found.embedded_seconds, READY_GOAL_SECONDS),
        ("service ready, external MongoDB", found.external_seconds, READY_GOAL_SECONDS),
    )
    for name, seconds, limit in rows:
        shown = f"{seconds:.2f}"
        if limit is None:
            table.add_row(name, shown, "")
        else:
            table.add_row(name, goal(shown, met=seconds < limit), f"< {limit:.0f}")
    return table


def table_of(title: str, *headings: str) -> Table:
    """A table whose first column is a name and whose others are figures."""
    table = Table("", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def goal(figure: str, *, met: bool) -> str:
    """A figure that has a goal."""
    return f"[green]{figure}[/]" if met else f"[red]{figure}[/] (goal missed)"


if __name__ == "__main__":
    main()
