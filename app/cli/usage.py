"""`dynamic-agents usage`: tokens and cost of model calls, as `/analytics/usage` and `/analytics/cache` show them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.progress import WIDE, plain
from app.database.opening import open_database
from app.errors import StartupError
from app.kit.schemas import ObjectIdStr
from app.routers.analytics import FullHour
from app.server.console import run_console
from app.services.usage.analytics import (
    CacheAnalytics,
    UsageAnalytics,
    UsageFilter,
    UsageGroup,
    UsageGrouping,
    UsageQueries,
)
from app.settings import Settings

HEADINGS = ("executions", "calls", "failed", "cached", "input", "output", "tokens", "saved", "USD", "unpriced")
ON_NARROW_TERMINALS = ("executions", "calls", "input", "output", "tokens", "USD")
"""The columns of a terminal that would cut figures; the sentences below the table have the other figures in total."""
Value = TypeVar("Value")

HOUR: TypeAdapter[datetime] = TypeAdapter(FullHour)
PROJECT: TypeAdapter[str] = TypeAdapter(ObjectIdStr)


@dataclass(frozen=True)
class UsageOptions:
    """The options of the command, as they were entered."""

    group_by: str
    project: str | None = None
    department: str | None = None
    agent: str | None = None
    api_key: str | None = None
    tag: str | None = None
    start: str | None = None
    end: str | None = None

    def filter(self) -> UsageFilter:
        """Return the filter.

        Raises:
            StartupError: an option is invalid.
        """
        project = checked(PROJECT, "--project", self.project)
        start, end = checked(HOUR, "--from", self.start), checked(HOUR, "--to", self.end)
        if start is not None and end is not None and end <= start:
            raise StartupError("--to must be later than --from, because calls at that time are not included.")
        return UsageFilter(project, self.department, self.agent, self.api_key, self.tag, start, end)


async def print_usage(settings: Settings, options: UsageOptions) -> None:
    """Print a table of the usage by group, its sum, and the savings of the response cache.

    Raises:
        StartupError: an option is invalid, or the database cannot be opened.
    """
    wanted = options.filter()
    async with open_database(settings, share=True) as database:
        queries = UsageQueries(database)
        usage = await queries.read(wanted, UsageGrouping(options.group_by))
        cache = await queries.read_cache(wanted)
    show(run_console(), options.group_by, usage, cache)


def show(console: Console, heading: str, usage: UsageAnalytics, cache: CacheAnalytics) -> None:
    """Print the figures."""
    if not usage.groups:
        console.print("No model calls match.")
        return
    shown = HEADINGS if console.width >= WIDE else ON_NARROW_TERMINALS
    table = Table(box=None, pad_edge=False)
    table.add_column(heading, overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for group in usage.groups:
        figures = dict(zip(HEADINGS, figures_of(group), strict=True))
        table.add_row(Text(plain(title_of(group))), *(figures[name] for name in shown))
    console.print(table)
    average = f"{usage.average_per_execution:,.0f}" if usage.average_per_execution is not None else "no"
    console.print(
        f"{usage.executions:,} executions made {usage.calls:,} calls ({usage.failed_calls:,} more failed) with "
        f"{usage.total_tokens:,} tokens for {dollars(usage.cost_estimate)}; {average} tokens per execution."
    )
    if usage.unpriced_calls:
        unpriced = usage.unpriced_calls
        which = (
            "1 call has no known price and is" if unpriced == 1 else f"{unpriced:,} calls have no known price and are"
        )
        console.print(f"{which} not part of the cost.")
    if cache.hit_rate is not None:
        saved = dollars(cache.saved_cost_usd if cache.hits else 0.0)
        console.print(
            f"The response cache answered {cache.hits:,} of {cache.hits + cache.misses:,} calls "
            f"({cache.hit_rate:.0%}) and saved {cache.saved_tokens:,} tokens, {saved}."
        )


def title_of(group: UsageGroup) -> str:
    """Return the key of a group, with its name if it has one."""
    key = group.key if group.key is not None else "(unknown)"
    return f"{key} {group.label}" if group.label else key


def figures_of(group: UsageGroup) -> list[str]:
    """Return the figures of a group in the order of the headings."""
    counts = (group.executions, group.calls, group.failed_calls, group.cached_calls)
    tokens = (group.input_tokens, group.output_tokens, group.total_tokens, group.saved_tokens)
    cost = f"{group.cost_usd:,.6f}" if group.cost_usd is not None else "unknown"
    return [*(f"{figure:,}" for figure in (*counts, *tokens)), cost, f"{group.unpriced_calls:,}"]


def dollars(usd: float | None) -> str:
    """Format an amount."""
    return f"{usd:,.6f} USD" if usd is not None else "an unknown cost"


def checked(kind: TypeAdapter[Value], option: str, value: str | None) -> Value | None:
    """Read the value of an option.

    Raises:
        StartupError: the value is invalid.
    """
    try:
        return None if value is None else kind.validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise StartupError(f"{option} {reason}.") from None
