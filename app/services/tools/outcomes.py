"""The result or error of a tool call, for every kind of tool."""

import json
from dataclasses import dataclass, field

from pydantic import JsonValue

from app.services.tools.sandbox.protocol import MAX_OUTPUT_BYTES


@dataclass(frozen=True)
class ToolOutcome:
    """A call's output, its duration without the wait for a worker, its console lines and its memory."""

    output: JsonValue
    duration_ms: float
    console: list[str] = field(default_factory=list[str])
    memory_bytes: int | None = None


class ToolFailed(Exception):
    """A call without a result; within a run the model receives it as `{"error": {"code", "message"}}`.

    `duration_ms`, `console` and `memory_bytes` are set if the call began.
    """

    def __init__(
        self, code: str, message: str, *, console: list[str] | None = None, memory_bytes: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.console = console or []
        self.memory_bytes = memory_bytes
        self.duration_ms: float | None = None


def checked_output(output: object) -> JsonValue:
    """Return the output of a tool that ran outside the sandbox, as a JSON value.

    Raises:
        ToolFailed: the output is not JSON, or too large.
    """
    try:
        text = json.dumps(output, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolFailed("tool-result-invalid", f"The tool's result is not JSON: {error}.") from None
    if len(text) > MAX_OUTPUT_BYTES:
        raise ToolFailed("tool-output-too-large", f"The tool's result exceeds {MAX_OUTPUT_BYTES // 1024} KiB as JSON.")
    return json.loads(text)
