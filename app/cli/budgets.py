"""`dynamic-agents budgets`: lists, sets and deletes the budgets of a server."""

from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from app.cli.progress import plain
from app.cli.run_following import server_at
from app.kit.json_values import JsonObject
from app.server.console import run_console

BUDGETS = "/api/v1/budgets"


async def print_budgets(url: str, key: str | None) -> None:
    """Print a table of all budgets of the server at `url`.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        budgets: list[JsonObject] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await client.get(f"{BUDGETS}?limit=200" + (f"&cursor={quote(cursor)}" if cursor else ""))
            budgets += page["items"]
            cursor = page["nextCursor"]
    print_table(run_console(), budgets)


async def put_budget(url: str, key: str | None, scope: str, body: JsonObject) -> None:
    """Set the limits of a scope and print its budget.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        budget = await client.put(f"{BUDGETS}/{quote(scope, safe='')}", body)
    print_table(run_console(), [budget])


async def remove_budget(url: str, key: str | None, scope: str) -> None:
    """Delete the budget of a scope.

    Raises:
        StartupError: no service answers at `url`, or it rejects the request (with its own message).
    """
    async with server_at(url, key) as client:
        await client.delete(f"{BUDGETS}/{quote(scope, safe='')}")
    run_console().print(f"The budget of {plain(scope)} is deleted.", markup=False)


def print_table(console: Console, budgets: list[JsonObject]) -> None:
    """Print budgets as a table; a limit that is not set is a dash."""
    table = Table(box=None, pad_edge=False)
    for heading in ("scope", "period", "tokens", "US dollars", "starts over"):
        table.add_column(heading, no_wrap=heading == "scope")
    for budget in budgets:
        table.add_row(
            plain(budget["scope"]),
            f"{budget['period']} ({budget['timezone']})",
            f"{budget['usedTokens']:,} + {budget['reservedTokens']:,} of {shown_tokens(budget['maxTokens'])}",
            f"{shown_cost(budget['usedCostUsd'])} + {shown_cost(budget['reservedCostUsd'])} of "
            f"{shown_cost(budget['maxCostUsd'])}",
            (budget["resetsAt"] or "never").replace("T", " ").removesuffix(":00.000Z"),
        )
    console.print(table)
    console.print("Each amount is used + reserved, of the limit.", style="dim")


def shown_tokens(limit: int | None) -> str:
    """Format a token limit."""
    return "-" if limit is None else f"{limit:,}"


def shown_cost(usd: float | None) -> str:
    """Format a cost in US dollars, with as many digits as it needs."""
    if usd is None:
        return "-"
    return f"{usd:,.4f}".rstrip("0").rstrip(".") if usd == 0 or usd >= 0.001 else f"{usd:.3g}"
