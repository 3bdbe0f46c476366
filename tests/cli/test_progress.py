"""The look of a run on terminals of different widths."""

import io

import pytest
from rich.console import Console

from app.cli.progress import INDENT, MAX_WRAPPED_LINES, print_event
from app.kit.json_values import JsonObject

CONTENT = " ".join(f"word{number}" for number in range(40))
EVENT: JsonObject = {
    "type": "agent-response",
    "timestamp": "2026-01-01T10:20:30.456Z",
    "agentId": "dialogue-specialist-001",
    "content": CONTENT,
}


def printed(width: int, **event: str) -> list[str]:
    """The lines of an event on a terminal of this width."""
    file = io.StringIO()
    print_event(Console(file=file, width=width, highlight=False), EVENT | event)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_narrow_terminal_shows_the_text_wrapped_below_its_heading(width: int) -> None:
    heading, *body = printed(width)

    assert heading.startswith("10:20:30 dialogue-specialist-001"[:width])
    assert all(len(line) <= width and line.startswith(INDENT) for line in body)
    shown = " ".join(line.strip() for line in body[:MAX_WRAPPED_LINES])
    assert CONTENT.startswith(shown)
    assert len(shown) > min(len(CONTENT) - 1, (width - len(INDENT)) * (MAX_WRAPPED_LINES - 1) - 60)


def test_a_wide_terminal_shows_an_event_on_one_line() -> None:
    (line,) = printed(180)

    assert "agent-response" in line
    assert "word0 word1" in line
    assert len(line) <= 180


def test_a_very_long_text_is_cut_with_a_count_of_what_is_left_out() -> None:
    lines = printed(80, content=CONTENT * 20)

    assert len(lines) == 1 + MAX_WRAPPED_LINES + 1
    assert lines[-1].strip().endswith("more lines")


def test_control_characters_of_a_model_reach_no_terminal() -> None:
    assert "\x1b" not in "".join(printed(80, content="\x1b[31mred\r\n"))
