"""The worker's replies, made from the answers of the script around a tool. Standard library only."""

import re
import traceback
from typing import Any

from app.services.tools.sandbox.protocol import MAX_OUTPUT_BYTES, MAX_OUTPUT_DEPTH

SYNTAX_ERROR_LINE = re.compile(r"<input>:(\d+)")
NOT_A_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^"\[\]{}]+')
LONE_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}")

MESSAGES = {
    "tool-timeout": "The tool did not finish in time.",
    "tool-memory-exceeded": "The tool exceeded its memory limit.",
    "tool-never-settled": "The tool's promise can never settle: nothing is left that could resolve it.",
    "tool-recursion": "The tool recurses too deeply, or its values are nested too deeply.",
    "tool-crashed": "The JavaScript engine failed while it ran the tool.",
    "tool-output-too-large": f"The tool's result exceeds {MAX_OUTPUT_BYTES // 1024} KiB as JSON.",
}
MAX_CAUSE_CHARACTERS = 2000
EGRESS_CODES = frozenset({"egress-denied", "egress-failed"})

Reply = dict[str, Any]


def failure(code: str, message: str | None = None, *, retire: bool = False) -> Reply:
    """Return the reply to a call that failed."""
    return {"error": {"code": code, "message": message or MESSAGES[code]}, "retire": retire}


def breakdown(error: Exception) -> Reply:
    """Return the reply if the worker itself failed; the cause goes to the service's log."""
    cause = "".join(traceback.format_exception(error)).strip()
    return failure("tool-crashed", retire=True) | {"cause": cause[-MAX_CAUSE_CHARACTERS:]}


def reply_to(answer: dict[str, Any], *, memory_is_spent: bool) -> Reply:
    """Return the reply for an answer of the script, with the tool's console lines."""
    console: list[str] = answer.get("console", [])
    return _outcome(answer, memory_is_spent) | {"console": console}


def _outcome(answer: dict[str, Any], memory_is_spent: bool) -> Reply:
    phase = answer.get("phase")
    if phase is None:
        return _success(answer["output"])
    if phase == "too-large":
        return failure("tool-output-too-large")
    if phase == "not-a-function":
        return failure("tool-syntax-error", "The code must be one function: (input, context) => result.")
    name, message = answer.get("name"), answer["message"]
    if name == "InternalError" and message in ("out of memory", "string too long"):
        return failure("tool-memory-exceeded")
    if (name, message) in ((None, "null"), ("InternalError", "")) and memory_is_spent:
        # The engine throws this if no memory is left for an error or its message.
        return failure("tool-memory-exceeded")
    if phase == "compile" and name == "SyntaxError":
        line = SYNTAX_ERROR_LINE.search(answer["stack"] or "")
        return failure("tool-syntax-error", f"Line {line[1]}: {message}" if line else message)
    if phase == "result":
        return failure("tool-result-invalid", f"The tool's result is not JSON: {message}.")
    if answer.get("code") in EGRESS_CODES:
        return failure(answer["code"], message)
    return failure("tool-error", f"{name}: {message}" if name else message)


def _success(output: str) -> Reply:
    output = whole_characters(output)
    if len(output.encode()) > MAX_OUTPUT_BYTES:
        return failure("tool-output-too-large")
    if _depth_exceeds(output, MAX_OUTPUT_DEPTH):
        return failure("tool-result-invalid", f"The tool's result is nested more than {MAX_OUTPUT_DEPTH} levels deep.")
    return {"output": output, "retire": False}


def whole_characters(text: str) -> str:
    """JSON text with lone surrogates (from a text cut inside an emoji) replaced by U+FFFD; databases refuse them."""
    return LONE_SURROGATE.sub(r"\1\\ufffd", text)


def _depth_exceeds(text: str, limit: int) -> bool:
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for bracket in NOT_A_BRACKET.sub("", text):
        depth += 1 if bracket in "[{" else -1
        if depth > limit:
            return True
    return False
