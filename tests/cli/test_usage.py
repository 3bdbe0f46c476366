"""`dynamic-agents usage`: a table of tokens and cost, over the database of a running service."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.cli.usage import UsageOptions, print_usage
from app.database.opening import open_database
from app.kit.json_values import JsonObject
from app.settings import Settings
from tests.fixtures.ledger_rows import History, count, row_of
from tests.fixtures.processes import run_command


def cached_row() -> JsonObject:
    """A call that the response cache answered."""
    saved = {"savedTokens": 110, "savedCostUsd": 0.125}
    return row_of(cached=True, cacheStatus="hit", inputTokens=0, outputTokens=0, costUsd=0.0) | saved


@pytest.fixture
async def settings(database_uri: str, tmp_path: Path) -> Settings:
    """The settings of a database with some counted calls."""
    settings = Settings(_env_file=None, mongodb_uri=SecretStr(database_uri), data_dir=tmp_path)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    async with open_database(settings) as database:
        await count(
            database,
            History([row_of(costUsd=0.125, cacheStatus="miss"), cached_row()], tags=("night",)),
            History([row_of(department="audio", priceStatus="unpriced", costUsd=None, inputTokens=12_345)]),
            History([row_of(department=None, outcome="error", costUsd=0.0, inputTokens=0, outputTokens=0)]),
        )
    return settings


async def test_usage_is_printed_as_a_table(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    await print_usage(settings, UsageOptions("department"))

    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[0][0] == "department"
    assert printed[1] == ["audio", "1", "1", "0", "0", "12,345", "10", "12,355", "0", "unknown", "1"]
    assert printed[2] == ["story", "1", "2", "0", "1", "100", "10", "110", "110", "0.125000", "0"]
    assert printed[3] == ["(unknown)", "1", "0", "1", "0", "0", "0", "0", "0", "0.000000", "0"]
    assert [" ".join(line) for line in printed[4:]] == [
        "3 executions made 3 calls (1 more failed) with 12,465 tokens for 0.125000 USD; 4,155 tokens per execution.",
        "1 call has no known price and is not part of the cost.",
        "The response cache answered 1 of 2 calls (50%) and saved 110 tokens, 0.125000 USD.",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (UsageOptions("tag"), "night"),
        (UsageOptions("day", start="2026-11-15", end="2026-11-16"), "2026-11-15"),
        (UsageOptions("model", department="audio", agent="plot-specialist-001"), "anthropic/claude-3.5-sonnet"),
        (UsageOptions("project", project="66F0A1B2C3D4E5F601234567"), "66f0a1b2c3d4e5f601234567"),
        (UsageOptions("day", end="2026-11-15T10:00:00Z"), "No model calls match."),
        (UsageOptions("day", api_key="66f0a1b2c3d4e5f601234567"), "No model calls match."),
    ],
)
async def test_options_choose_the_calls_and_the_rows(
    settings: Settings, capsys: pytest.CaptureFixture[str], options: UsageOptions, shown: str
) -> None:
    await print_usage(settings, options)

    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--from", "2026-11-15T10:30:00Z"), "--from must be a date or a full hour in UTC"),
        (("--to", "soon"), "--to must be a time in ISO 8601"),
        (("--from", "2026-11-15", "--to", "2026-11-15"), "--to must be later than --from"),
        (("--project", "x"), "--project must be the 24-character hexadecimal id"),
    ],
)
async def test_an_invalid_option_is_one_line(tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    code, printed = await run_command("usage", *options, cwd=tmp_path)

    assert (code, printed.count("\n")) == (1, 1)
    assert printed.startswith(f"dynamic-agents: {problem}")
