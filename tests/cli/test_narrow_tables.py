"""Tables on a terminal of 80 columns: ids can be copied, and no figure is cut."""

import io
from typing import Any

import pytest
from rich.console import Console

from app.cli.approvals.decisions import print_table
from app.cli.usage import ON_NARROW_TERMINALS, show
from app.kit.json_values import JsonObject
from app.server.console import run_console
from app.services.usage.analytics import CacheAnalytics, UsageAnalytics, UsageGroup

APPROVAL: JsonObject = {
    "id": "appr_1795870633836_yojadhijl",
    "requestedAt": "2026-11-28T12:57:13.836Z",
    "agent": "dialogue-specialist-001",
    "toolName": "dialogueShare",
    "input": {"screenplay": "INT. [/CHAPEL] HALL - EVENING " * 20},
}


def narrow() -> Console:
    """A terminal of 80 columns that keeps what it shows."""
    return Console(width=80, file=io.StringIO(), highlight=False, record=True)


def test_the_id_of_an_approval_stays_on_one_line() -> None:
    console = narrow()

    print_table(console, [APPROVAL])

    lines = console.export_text().splitlines()
    assert APPROVAL["id"] in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_inputs_take_the_room_that_is_left_and_show_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(run_console(), [APPROVAL])

    [_, line] = capsys.readouterr().out.splitlines()
    assert line.startswith(APPROVAL["id"])
    assert "[/CHAPEL]" in line


def test_usage_shows_fewer_figures_and_cuts_none() -> None:
    figures: dict[str, Any] = {
        "executions": 1_234,
        "calls": 12_345,
        "input_tokens": 1_234_567,
        "output_tokens": 234_567,
    }
    group = UsageGroup.model_construct(
        **figures, key="plot-specialist-001", label=None, failed_calls=0, cached_calls=0, saved_tokens=0,
        total_tokens=1_469_134, cost_usd=123.456789, unpriced_calls=0,
    )  # fmt: skip
    usage = UsageAnalytics.model_construct(
        **figures, groups=[group], failed_calls=0, total_tokens=1_469_134, cost_estimate=123.456789,
        average_per_execution=1_190.0, unpriced_calls=0,
    )  # fmt: skip
    console = narrow()

    show(console, "agent", usage, CacheAnalytics.model_construct(hit_rate=None))

    heading, line = console.export_text().splitlines()[:2]
    assert heading.split() == ["agent", *ON_NARROW_TERMINALS]
    assert line.split()[-6:] == ["1,234", "12,345", "1,234,567", "234,567", "1,469,134", "123.456789"]
