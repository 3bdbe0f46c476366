"""The log: one form for everybody's lines, ids in each, nothing in it that a text could forge."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app.logs import without_credentials

REPOSITORY = Path(__file__).parents[1]
PROGRAM = """
import logging, sys
import structlog
from app.logs import configure_logging

configure_logging(sys.argv[1], sys.argv[2])
log = structlog.get_logger("app.somewhere")
structlog.contextvars.bind_contextvars(requestId="req_1", executionId="exec_1")
log.debug("a debug line")
log.info("run-failed", prompt="first\\nsecond\\r\\n2026-01-01 [info] forged \\x1b[31mred\\x9b31m", agentId="a-001")
logging.getLogger("uvicorn.error").warning("a line of %s", "uvicorn's")
logging.getLogger("uvicorn.access").info("an access line")
logging.getLogger("pymongo.serverSelection").warning("a chatty line")
try:
    raise ValueError("broken\\x1b[31m")
except ValueError:
    log.exception("crashed")
"""


def lines_of(log_format: str, level: str = "info") -> list[str]:
    """Return the lines that a program logs to stderr; it logs nothing to stdout."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, log_format, level],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == ""
    return ran.stderr.splitlines()


def test_json_lines_each_carry_the_ids_the_time_and_the_level() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in lines_of("json")]

    assert [line["event"] for line in lines] == ["run-failed", "a line of uvicorn's", "crashed"]
    for line in lines:
        assert (line["requestId"], line["executionId"]) == ("req_1", "exec_1")
        assert line["timestamp"].endswith("Z")
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["prompt"].startswith("first\nsecond\r\n")
    assert "ValueError: broken" in lines[2]["exception"]


def test_the_level_decides_what_is_logged() -> None:
    assert "a debug line" in "\n".join(lines_of("json", "debug"))
    assert [json.loads(line)["event"] for line in lines_of("json", "error")] == ["crashed"]


def test_on_the_console_no_text_can_forge_a_line_or_color_the_terminal() -> None:
    lines = lines_of("console")

    (failed,) = [line for line in lines if "run-failed" in line]
    assert r"\x0asecond" in failed
    assert r"\x0a2026-01-01 [info] forged" in failed
    assert "requestId=req_1" in failed
    assert "executionId=exec_1" in failed
    assert not any("\x1b" in line or "\x9b" in line for line in lines)
    assert any(line.startswith("ValueError: broken") for line in lines), "a traceback keeps its lines"


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        (
            '< TEXT \'{"type": "auth", "token": "da.ta"}\' [37 bytes]',
            '< TEXT \'{"type": "auth", "token": "***"}\' [37 bytes]',
        ),
        (
            '"WebSocket /api/agent-events?key=abc&x=y" [accepted]',
            '"WebSocket /api/agent-events?key=***&x=***" [accepted]',
        ),
        ("> Authorization: Bearer abc", "> Authorization: Bearer ***"),
        ("x-api-key: abc", "x-api-key: ***"),
        ("mongodb://user:s3cret@host/db", "mongodb://user:***@host/db"),
        ("made da_0123456789abcdefghij, or sk-0123456789abcdefghij", "made ***, or ***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln is no token here", "*** is no token here"),
        ("12 tokens of http://127.0.0.1:8000/docs", "12 tokens of http://127.0.0.1:8000/docs"),
    ],
)
def test_libraries_lines_are_logged_without_credentials(line: str, logged: str) -> None:
    assert without_credentials(line) == logged


@pytest.mark.parametrize("piece", ["-eyJaaaaaaa", "//a:", "?a", "token ", "bearer ", "a-", "da_a", "sk-a-"])
def test_looking_for_credentials_takes_time_in_proportion_to_the_text(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.thread_time()

    without_credentials(text)

    assert time.thread_time() - started < 1
