"""One call of a tool in a JavaScript engine made for it: the only module that knows the engine.

Imported by the worker process alone: standard library and the engine, nothing else.
"""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickjs_rs import Context, DeadlockError, Handle, InterruptError, JSError, MemoryLimitError, Runtime
from wasmtime import Trap, TrapCode

from app.services.tools.confinement import data_bytes
from app.services.tools.protocol import MAX_OUTPUT_BYTES, MAX_OUTPUT_DEPTH

INVOKE = Path(__file__).with_name("invoke.js").read_text(encoding="utf-8")
# The engine runs at most 100,000 promise reactions at a go (about 0.1 s), then calls the promise dead, settled or not.
# A go that ended sooner than this found nothing left to run.
EMPTY_QUEUE_SECONDS = 0.01
ALMOST_FULL_BYTES = 2 * 1024 * 1024
SYNTAX_ERROR_LINE = re.compile(r"<input>:(\d+)")
NOT_A_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^"\[\]{}]+')
LONE_SURROGATE = re.compile(r"(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}")

MESSAGES = {
    "tool-timeout": "The tool did not finish in time.",
    "tool-memory-exceeded": "The tool needs more memory than it may use.",
    "tool-never-settled": "The tool's promise can never settle: nothing is left that could resolve it.",
    "tool-recursion": "The tool recurses, or its values are nested, too deeply.",
    "tool-crashed": "The JavaScript engine failed while it ran the tool.",
    "tool-output-too-large": f"The tool's result is over {MAX_OUTPUT_BYTES // 1024} KiB as JSON.",
}

Reply = dict[str, Any]


@dataclass(frozen=True)
class EngineLimits:
    """What one call may use; `data_bytes` is where the kernel refuses this process more memory (0: it does not)."""

    timeout_seconds: float
    memory_bytes: int
    data_bytes: int = 0


def invoke(request: str, limits: EngineLimits, loop: asyncio.AbstractEventLoop) -> Reply:
    """Run one request (JSON text) in an engine of its own and give the reply.

    A failed engine is thrown away with its memory, whatever it ran into; a failure that is not the tool's doing asks
    for a new worker, one that nobody expected ends this one.

    Raises:
        MemoryError: the worker itself has no room left.
    """
    runtime = Runtime(memory_limit=limits.memory_bytes)
    context: Context = runtime.new_context(timeout=limits.timeout_seconds)
    handles: list[Handle] = []
    try:
        answer = _evaluate(context, request, time.monotonic() + limits.timeout_seconds, loop, handles)
        return _reply_to(json.loads(whole_characters(answer)), limits)
    except InterruptError:
        return failure("tool-timeout")
    except DeadlockError:
        return failure("tool-never-settled")
    except MemoryLimitError:
        return failure("tool-memory-exceeded")
    except Trap as trap:
        return failure("tool-recursion") if trap.trap_code == TrapCode.STACK_OVERFLOW else _breakdown(limits)
    except JSError:
        return _breakdown(limits)
    finally:
        # Closing first makes disposing a formality that no longer enters the engine, which a trap may have broken.
        context.close()
        runtime.close()
        for handle in handles:
            handle.dispose()


def failure(code: str, message: str | None = None, *, retire: bool = False) -> Reply:
    """The reply to a call that failed."""
    return {"error": {"code": code, "message": message or MESSAGES[code]}, "retire": retire}


def _evaluate(
    context: Context, request: str, deadline: float, loop: asyncio.AbstractEventLoop, handles: list[Handle]
) -> str:
    context.globals["request"] = request
    promise = context.eval_handle(INVOKE, filename="invoke.js")
    handles.append(promise)
    settled = _drive(promise, deadline, loop)
    handles.append(settled)
    return settled.to_python()


def _drive(promise: Handle, deadline: float, loop: asyncio.AbstractEventLoop) -> Handle:
    """Run promise reactions until this promise settles.

    Raises:
        InterruptError: the deadline came first; an interrupt inside a reaction looks like a dead promise.
        DeadlockError: nothing is left to run and it has not settled.
    """
    while True:
        started = time.monotonic()
        try:
            return loop.run_until_complete(promise.await_promise(timeout=deadline - started))
        except DeadlockError:
            now = time.monotonic()
            if now >= deadline:
                raise InterruptError from None
            if now - started < EMPTY_QUEUE_SECONDS:
                raise


def _reply_to(answer: dict[str, Any], limits: EngineLimits) -> Reply:
    phase = answer.get("phase")
    if phase is None:
        return _success(answer["output"], answer["console"])
    if phase == "too-large":
        return failure("tool-output-too-large")
    if phase == "not-a-function":
        return failure("tool-syntax-error", "The code must be one function: (input, context) => result.")
    name, message = answer.get("name"), answer["message"]
    if name == "InternalError" and message in ("out of memory", "string too long"):
        return failure("tool-memory-exceeded")
    if name is None and message == "null" and _memory_is_spent(limits):
        # With no room left even for an error object the engine throws null.
        return failure("tool-memory-exceeded")
    if phase == "compile" and name == "SyntaxError":
        line = SYNTAX_ERROR_LINE.search(answer["stack"] or "")
        return failure("tool-syntax-error", f"Line {line[1]}: {message}" if line else message)
    if phase == "result":
        return failure("tool-result-invalid", f"The tool's result is not JSON: {message}.")
    return failure("tool-error", f"{name}: {message}" if name else message)


def _breakdown(limits: EngineLimits) -> Reply:
    """The reply when the engine, or the script around the tool, gave up: for want of memory, or nobody knows why."""
    return failure("tool-memory-exceeded" if _memory_is_spent(limits) else "tool-crashed", retire=True)


def _memory_is_spent(limits: EngineLimits) -> bool:
    return limits.data_bytes > 0 and data_bytes() > limits.data_bytes - ALMOST_FULL_BYTES


def _success(output: str, console: list[str]) -> Reply:
    output = whole_characters(output)
    if len(output.encode()) > MAX_OUTPUT_BYTES:
        return failure("tool-output-too-large")
    if _depth_exceeds(output, MAX_OUTPUT_DEPTH):
        return failure("tool-result-invalid", f"The tool's result is nested over {MAX_OUTPUT_DEPTH} levels deep.")
    return {"output": output, "console": console, "retire": False}


def whole_characters(text: str) -> str:
    """JSON text whose halves of characters (a text cut inside an emoji) are U+FFFD: no database stores a half."""
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
